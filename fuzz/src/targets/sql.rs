//! SQL filters: compiling any text, and evaluating it on any properties. An input is an expression, a line end, and a property string.

use crate::Target;
use broker::filter::{Expression, SqlLimits, Verdict};

/// See the module.
pub const TARGET: Target = Target { name: "sql", run, seeds };

fn seeds() -> Vec<Vec<u8>> {
    let texts: [&[u8]; 10] = [
        b"a > 5 AND b = 'it''s' OR c IS NOT NULL\na\x016\x02b\x01it's",
        b"a BETWEEN 1 AND 5.5e1 AND NOT (b IN ('x', 'y'))\na\x01 0x1.8p3f\x02b\x01y\x02",
        b"a NOT CONTAINS 'x' AND b STARTSWITH 'y' AND c NOT ENDSWITH 'z'\na\x01xx\x02b\x01\xff\x02c\x01z\x02",
        b"a = b OR a <> -5L OR TRUE = a\na\x01\xfe\x02b\x01\xff\x02",
        b"a NOT BETWEEN b AND 9223372036854775807 /* c */ OR a\na\x01NaN\x02b\x01-Infinity\x02",
        b"a > b\na\x01\xd9\xa5\x02b\x01-0x1p-1075\x02",
        b"((((((a))))))\n",
        b"a IS NULL IS NULL = FALSE --x\r\n",
        b"a = '\n",
        b"- - + a >= .5 NOT IN ('1')\n",
    ];
    texts.iter().map(|text| text.to_vec()).collect()
}

fn run(data: &[u8]) {
    let at = data.iter().rposition(|byte| *byte == b'\n').unwrap_or(data.len());
    let (text, properties) = (String::from_utf8_lossy(&data[..at]), &data[(at + 1).min(data.len())..]);
    match Expression::parse(&text, &SqlLimits::default()) {
        Ok(expression) => {
            assert!(expression.memory() <= 1_000 + 160 * text.len());
            let verdict = expression.evaluate(properties);
            assert_eq!(expression.selects(properties), verdict == Verdict::True);
        }
        Err(error) => assert!((1..=text.chars().count() + 1).contains(&error.at), "{error}"),
    }
}
