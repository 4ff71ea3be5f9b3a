//! Grammar and semantics, each with what Apache's `SqlFilter` 5.5.0 says.

use super::*;
use message::properties::Builder;
use proptest::prelude::*;

fn compiled(text: &str) -> Result<Expression, SqlError> {
    Expression::parse(text, &SqlLimits::default())
}

/// The verdict on properties given as `a=1;b=x`.
fn verdict(text: &str, properties: &str) -> Verdict {
    let pairs = properties.split(';').filter_map(|pair| pair.split_once('='));
    let stored = pairs.fold(Builder::new(), |built, (name, value)| built.with(name, value)).build();
    compiled(text).unwrap_or_else(|error| panic!("{text}: {error}")).evaluate(&stored)
}

fn refusal(text: &str) -> String {
    match compiled(text) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("{text} is compiled"),
    }
}

#[test]
fn comparisons_with_numbers_parse_the_property() {
    for (text, properties, wanted) in [
        ("a > 5", "a=6", Verdict::True),
        ("a > 5", "a=5", Verdict::False),
        ("a > 5", "b=6", Verdict::Null),
        ("a > 5", "a=6.5", Verdict::Error),
        ("a > 5", "a=x", Verdict::Error),
        ("a > 5", "a= 6", Verdict::Error),
        ("a > 5", "a=3000000000", Verdict::Error),
        ("a > 5000000000", "a=6000000000", Verdict::True),
        ("a >= 5.5", "a= 5.5d", Verdict::True),
        ("a < 1e3", "a=0x1p3", Verdict::True),
        ("a <= .5", "a=NaN", Verdict::False),
        ("a > b", "a=10;b=9", Verdict::True),
        ("a > b", "a=10;b=x", Verdict::Error),
        ("5 < a", "a=+6", Verdict::True),
        ("a = -5", "a=-5", Verdict::True),
        ("a = 5", "a=x", Verdict::Error),
        ("-a = 5", "a=-5", Verdict::Null),
        ("-a IS NULL", "a=5", Verdict::True),
        ("5 = 5L", "", Verdict::True),
        ("5 = 5.", "", Verdict::True),
        ("5 = '5'", "", Verdict::True),
        ("'x' = 5", "", Verdict::Error),
        ("1 > 2", "", Verdict::False),
        ("9223372036854775807 = a", "a=9223372036854775807", Verdict::True),
    ] {
        assert_eq!(verdict(text, properties), wanted, "{text} on {properties}");
    }
}

#[test]
fn texts_booleans_and_null_compare_as_apaches() {
    for (text, properties, wanted) in [
        ("a = 'x'", "a=x", Verdict::True),
        ("a = 'it''s'", "a=it's", Verdict::True),
        ("a <> 'x'", "a=x", Verdict::False),
        ("a <> 'x'", "", Verdict::Null),
        ("'x' = a", "", Verdict::False),
        ("'x' <> a", "", Verdict::True),
        ("a = b", "", Verdict::True),
        ("a = b", "a=1;b=1", Verdict::True),
        ("a = b", "a=1;b=1.0", Verdict::False),
        ("A = '1'", "a=1", Verdict::Null),
        ("a = TRUE", "a=true", Verdict::True),
        ("a = true", "a=TrUe", Verdict::True),
        ("a = FALSE", "a=x", Verdict::True),
        ("a = TRUE", "", Verdict::Null),
        ("TRUE = a", "a=true", Verdict::Error),
        ("(b > 1) = a", "b=2;a=true", Verdict::Error),
        ("(b > 1) = 1", "b=2", Verdict::False),
        ("1 = TRUE", "", Verdict::False),
        ("a", "a=true", Verdict::False),
        ("a", "", Verdict::Null),
        ("NOT a", "a=true", Verdict::True),
        ("NOT a = 1", "a=1", Verdict::False),
        ("TRUE", "", Verdict::True),
        ("NULL", "", Verdict::Null),
        ("a IS NULL", "", Verdict::True),
        ("a IS NULL", "a=1", Verdict::False),
        ("a IS NOT NULL", "a=1", Verdict::True),
        ("a IS NULL IS NULL", "a=1", Verdict::False),
        ("NOT NULL IS NULL", "", Verdict::True),
        ("a = 1 = TRUE", "a=1", Verdict::True),
    ] {
        assert_eq!(verdict(text, properties), wanted, "{text} on {properties}");
    }
}

#[test]
fn lists_ranges_and_parts_of_texts() {
    for (text, properties, wanted) in [
        ("a IN ('x', 'y')", "a=y", Verdict::True),
        ("a IN ('x', 'y')", "a=z", Verdict::False),
        ("a IN ('x', 'y')", "", Verdict::Null),
        ("a NOT IN ('x', 'y')", "a=z", Verdict::True),
        ("a not in ('x')", "", Verdict::Null),
        ("(a) IN ('x')", "a=x", Verdict::True),
        ("a BETWEEN 1 AND 3", "a=3", Verdict::True),
        ("a BETWEEN 1 AND 3", "a=4", Verdict::False),
        ("a BETWEEN 1 AND 3", "", Verdict::Null),
        ("a BETWEEN 1 AND b", "a=0", Verdict::False),
        ("a BETWEEN 1 AND b", "a=2", Verdict::Null),
        ("a BETWEEN b AND 3", "a=4", Verdict::False),
        ("a BETWEEN b AND 3", "a=2", Verdict::Null),
        ("a BETWEEN 1 AND 3", "a=x", Verdict::Error),
        ("a NOT BETWEEN 3 AND 1", "a=2", Verdict::True),
        ("a NOT BETWEEN 1 AND 3", "a=2", Verdict::False),
        ("a NOT BETWEEN b AND 3", "a=4", Verdict::True),
        ("a NOT BETWEEN b AND 3", "a=2", Verdict::Null),
        ("a BETWEEN 1 AND 3 AND b = 1", "a=2;b=1", Verdict::True),
        ("a CONTAINS 'bc'", "a=abcd", Verdict::True),
        ("a CONTAINS 'bc'", "", Verdict::False),
        ("a CONTAINS ''", "a=abcd", Verdict::False),
        ("a NOT CONTAINS ''", "a=abcd", Verdict::False),
        ("a NOT CONTAINS 'x'", "a=abcd", Verdict::True),
        ("a NOT CONTAINS 'x'", "", Verdict::False),
        ("a STARTSWITH 'ab'", "a=abcd", Verdict::True),
        ("a NOT STARTSWITH 'ab'", "a=abcd", Verdict::False),
        ("a ENDSWITH 'cd'", "a=abcd", Verdict::True),
        ("a NOT ENDSWITH 'ab'", "a=abcd", Verdict::True),
        ("(5 <> 'x') CONTAINS ''", "", Verdict::False),
        ("(5 <> 'x') CONTAINS 'x'", "", Verdict::Error),
        ("5 CONTAINS '5'", "", Verdict::False),
        ("'abc' CONTAINS 'b'", "", Verdict::True),
        ("a CONTAINS 'b' CONTAINS 'c'", "a=bc", Verdict::False),
    ] {
        assert_eq!(verdict(text, properties), wanted, "{text} on {properties}");
    }
}

#[test]
fn logic_has_three_values_and_stops_early() {
    for (text, properties, wanted) in [
        ("a = 1 AND b = 1", "a=1", Verdict::Null),
        ("a = 1 AND b = 1", "b=2", Verdict::False),
        ("a = 1 OR b = 1", "b=1", Verdict::True),
        ("a = 1 OR b = 1", "b=2", Verdict::Null),
        ("a = 2 AND b > 1", "a=1;b=x", Verdict::False),
        ("a = 1 AND b > 1", "a=1;b=x", Verdict::Error),
        ("a = 1 OR b > 1", "a=1;b=x", Verdict::True),
        ("b > 1 OR a = 1", "a=1;b=x", Verdict::Error),
        ("a = 1 OR a = 2 AND b = 1", "a=1", Verdict::True),
        ("(a = 1 OR a = 2) AND b = 1", "a=1", Verdict::Null),
        ("NOT (a = 1 AND b = 1)", "a=2", Verdict::True),
        ("a = 1 AND NULL AND FALSE", "a=1", Verdict::False),
    ] {
        assert_eq!(verdict(text, properties), wanted, "{text} on {properties}");
    }
}

#[test]
fn what_follows_an_expression_and_comments_are_ignored() {
    for text in [
        "a = 1 b = 2",
        "a = 1) OR",
        "a = 1 -- no line end",
        "a = 1 -- a comment\n",
        "a /* in * between **/ = 1",
        "--\r a=1",
        "a = 1 ; '",
        "\u{c}a\t=\n1\r",
        "a = +1",
        "a=1L",
        "a = 007 OR",
    ] {
        let is_refused = compiled(text).is_err();
        assert_eq!(is_refused, text.contains(';'), "{text}");
    }
    assert_eq!(verdict("a = 007 OR", "a=0"), Verdict::True);
    assert_eq!(verdict("_a$1 = 'é'", "_a$1=é"), Verdict::True);
}

#[test]
fn a_refusal_points_at_the_place() {
    for (text, wanted) in [
        (
            "",
            "at character 1: expected a property, a number, a text in single quotes, TRUE, FALSE, NULL, NOT or '(', found the end",
        ),
        ("a = ", "at character 5: expected a property"),
        ("a > 'x'", "at character 5: only numbers and properties can be compared"),
        ("a = 1 AND", "at character 10: expected a property"),
        (
            "a = 'x",
            "at character 5: expected a property, a number, a text in single quotes, TRUE, FALSE, NULL, NOT or '(', found a text without",
        ),
        (
            "a = 'é' AND b NOT 5",
            "at character 19: expected CONTAINS, STARTSWITH, ENDSWITH, BETWEEN or IN after NOT, found '5'",
        ),
        ("a IS 5", "at character 6: expected NULL or NOT NULL, found '5'"),
        ("a IN ()", "at character 7: expected a text in single quotes, found ')'"),
        ("a IN ('x'", "at character 10: expected ',' or ')', found the end"),
        ("5 IN ('x')", "at character 1: IN needs a property"),
        ("a IN (5)", "at character 7: expected a text in single quotes, found '5'"),
        ("a BETWEEN 3 AND 1", "at character 11: the first bound of BETWEEN is greater"),
        (
            "a BETWEEN 1 OR 3",
            "at character 13: expected AND between the two bounds, found 'OR'",
        ),
        ("a BETWEEN 1 AND '3'", "at character 17: only numbers"),
        ("a CONTAINS b", "at character 12: expected a text in single quotes, found 'b'"),
        ("a = NULL", "at character 5: NULL cannot be compared"),
        ("TRUE = 1", "at character 1: a boolean cannot be compared"),
        ("a = 9223372036854775808", "at character 5: the number does not fit"),
        ("a = 0.0", "at character 5: the number is not between"),
        ("a = 1e999", "at character 5: the number is not between"),
        ("5", "at character 1: this is a number or a text"),
        ("'x' AND a", "at character 1: this is a number or a text"),
        ("-a", "at character 1: this is a number or a text"),
        ("a # 5", "at character 3"),
        ("(a = 1", "at character 7: expected an operator or ')', found the end"),
    ] {
        let refusal = refusal(text);
        assert!(refusal.starts_with(wanted), "{text}: {refusal}");
    }
}

#[test]
fn length_depth_terms_and_properties_are_bounded() {
    let limits = SqlLimits {
        bytes: 100,
        terms: 6,
        depth: 5,
    };
    let refused = |text: &str| Expression::parse(text, &limits).unwrap_err().why;
    assert!(refused(&" ".repeat(101)).contains("apogeeMaxFilterBytes"));
    assert!(refused("a IN ('1','2','3','4','5','6')").contains("apogeeMaxFilterTerms"));
    assert!(Expression::parse("a IN ('1','2','3','4','5')", &limits).is_ok());
    assert!(refused("((((((a))))))").contains("apogeeMaxFilterDepth"));
    assert!(refused("a IS NULL IS NULL IS NULL IS NULL IS NULL").contains("apogeeMaxFilterDepth"));
    for prefix in ["-", "+", "NOT ", "("] {
        assert!(
            refused(&format!("{}a", prefix.repeat(20))).contains("apogeeMaxFilterDepth"),
            "{prefix}"
        );
    }
    let many = |count: usize| {
        let terms: Vec<String> = (0..count).map(|n| format!("p{n} = '{n}'")).collect();
        terms.join(" OR ")
    };
    assert!(compiled(&many(MAX_PROPERTIES)).is_ok());
    assert!(refusal(&many(MAX_PROPERTIES + 1)).contains("65th property"));
    assert_eq!(verdict(&many(MAX_PROPERTIES), "p63=63"), Verdict::True);
}

#[test]
fn properties_that_are_not_utf8_are_compared_as_java_reads_them() {
    let on = |text: &str, stored: &[u8]| compiled(text).unwrap().evaluate(stored);
    assert_eq!(on("a = '\u{fffd}x'", b"a\x01\xffx\x02"), Verdict::True);
    assert_eq!(on("a IN ('\u{fffd}x', 'y')", b"a\x01\xffx\x02"), Verdict::True);
    assert_eq!(on("a CONTAINS '\u{fffd}'", b"a\x01b\xffx\x02"), Verdict::True);
    assert_eq!(on("a = b", b"a\x01\xff\x02b\x01\xfe\x02"), Verdict::True);
    assert_eq!(on("a CONTAINS 'x'", b"a\x01\xe4\xb8x\x02"), Verdict::True);
    assert_eq!(on("a = 'é'", b"a\x01\xe9\x02"), Verdict::False);
    assert_eq!(on("a > 5", b"a\x01\xff\x02"), Verdict::Error);
}

#[test]
fn the_last_of_several_properties_of_one_name_counts() {
    assert_eq!(compiled("a = '2'").unwrap().evaluate(b"a\x011\x02a\x012"), Verdict::True);
}

proptest! {
    #[test]
    fn any_text_and_any_bytes_stay_within_the_bounds(text in "\\PC{0,80}", stored: Vec<u8>) {
        if let Ok(expression) = compiled(&text) {
            let _ = expression.evaluate(&stored);
        }
    }

    #[test]
    fn any_row_of_tokens_stays_within_the_bounds(
        tokens in proptest::collection::vec(proptest::sample::select(vec![
            "a", "b", "TAGS", "1", "2.5", "'x'", "''", "TRUE", "NULL", "NOT", "AND", "OR", "IN", "IS", "BETWEEN", "CONTAINS", "STARTSWITH",
            "ENDSWITH", "=", "<>", ">", ">=", "<", "<=", "(", ")", ",", "+", "-", "/*", "*/", "--", "\n", "'", "é",
        ]), 0..300),
        stored in "(a\u{1}[0-9x.]{1,5}\u{2})?(b\u{1}[0-9x.]{1,5}\u{2}?)?",
    ) {
        let text = tokens.join(" ");
        match compiled(&text) {
            Ok(expression) => {
                let _ = expression.evaluate(stored.as_bytes());
                prop_assert!(expression.memory() <= 600 + 160 * text.len());
            }
            Err(error) => prop_assert!(error.at <= text.chars().count() + 1, "{error}"),
        }
    }
}
