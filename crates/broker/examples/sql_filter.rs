//! SQL filters beside Apache's, and how fast they are.
//!
//! - `sql_filter compare SEED EXPRESSIONS COMMAND...` generates expressions and messages from the seed and compares our verdicts with
//!   those that the command prints (`tests/compat/filter/src/Verdicts.java`).
//! - `sql_filter speed` measures evaluations in a second; to be built with `--release`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use broker::filter::{Expression, SqlLimits, Verdict};
use message::properties::Builder;
use std::fmt::Write as _;
use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["compare", seed, expressions, program, ref rest @ ..] => {
            let (seed, expressions) = (seed.parse().expect("a seed"), expressions.parse().expect("a number"));
            let mut command = Command::new(program);
            compare(seed, expressions, command.args(rest))
        }
        ["speed"] => {
            speed();
            ExitCode::SUCCESS
        }
        _ => panic!("sql_filter compare SEED EXPRESSIONS COMMAND... | sql_filter speed"),
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn one_of<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

const NAMES: &[&str] = &["a", "b", "c", "A", "_x", "$1", "TAGS", "orderId", "inn", "nulls"];
const TEXTS: &[&str] = &[
    "''",
    "'x'",
    "'abc'",
    "'ab'",
    "'c'",
    "'5'",
    "'it''s'",
    "''''",
    "'true'",
    "'é'",
    "'\u{fffd}'",
    "'5.0'",
    "' '",
    "'--'",
    "'𝟎'",
    "'a\nb'",
];
const NUMBERS: &[&str] = &[
    "0",
    "1",
    "5",
    "5",
    "6",
    "007",
    "5L",
    "10l",
    "2147483647",
    "2147483648",
    "4294967301",
    "9223372036854775807",
    "9223372036854775808",
    "5.0",
    "5.",
    ".5",
    "5.5",
    "5e0",
    "50E-1",
    "1e308",
    "1e309",
    "0.0",
    "1e-400",
    "4.9e-324",
    "05.5",
    "5e",
    "5.5L",
    "0x5",
    "9007199254740993",
];
const VALUES: &[&str] = &[
    "0",
    "1",
    "5",
    "5",
    "6",
    "-5",
    "+5",
    "007",
    "5.0",
    "5.5",
    " 5",
    "5 ",
    "5f",
    "5d",
    "5L",
    "0x5",
    "0x5p0",
    "0x1.8p1",
    "0X.Ap3D",
    "1e3",
    "1e999",
    "-1e-999",
    "NaN",
    "-NaN",
    "Infinity",
    "-Infinity",
    "infinity",
    "true",
    "TRUE",
    "True",
    "false",
    "x",
    "abc",
    "ab",
    "c",
    "it's",
    "'",
    "é",
    "a\nb",
    "2147483647",
    "2147483648",
    "-2147483648",
    "-2147483649",
    "4294967301",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "9007199254740993",
    "9007199254740992.0",
    "٥",
    "５",
    "-٥",
    "𝟓",
    "5٥",
    "\u{fffd}",
    ".",
    "-",
    "+",
    "e5",
    "5e",
    "5e+",
    ".5",
    "5.",
    "0x1.00000000000008p0",
    "0x1p-1075",
    "0x1.8p-1075",
    "0x1p99999",
    "-0",
    "-0.0",
    "0.0",
    "1_0",
    "\t5",
    "\u{a0}5",
];
const TOKENS: &[&str] = &[
    "a",
    "b",
    "5",
    "'x'",
    "TRUE",
    "NULL",
    "NOT",
    "AND",
    "OR",
    "IN",
    "IS",
    "BETWEEN",
    "CONTAINS",
    "STARTSWITH",
    "ENDSWITH",
    "=",
    "<>",
    ">",
    ">=",
    "<",
    "<=",
    "(",
    ")",
    ",",
    "+",
    "-",
    "/*",
    "*/",
    "--",
    "\n",
    "'",
    "#",
    "é",
    "!=",
    "==",
    ";",
    ".",
    "/",
    "*",
    "\u{b}",
    "\u{a0}",
    "not",
    "isnull",
];

/// A condition.
fn condition(random: &mut Random, depth: usize, out: &mut String) {
    let kind = if depth == 0 { random.below(60) } else { random.below(100) };
    match kind {
        0..=21 => {
            operand(random, depth, out);
            let operator = random.one_of(&["=", "<>", ">", ">=", "<", "<=", "=", "<>"]);
            let _ = write!(out, " {operator} ");
            operand(random, depth, out);
        }
        22..=29 => {
            operand(random, depth, out);
            out.push_str(random.one_of(&[" IS NULL", " IS NOT NULL", " is not null"]));
        }
        30..=39 => {
            operand(random, depth, out);
            out.push_str(random.one_of(&[
                " CONTAINS ",
                " NOT CONTAINS ",
                " STARTSWITH ",
                " NOT STARTSWITH ",
                " ENDSWITH ",
                " NOT EndsWith ",
            ]));
            out.push_str(random.one_of(TEXTS));
        }
        40..=48 => {
            operand(random, depth, out);
            out.push_str(random.one_of(&[" BETWEEN ", " NOT BETWEEN "]));
            operand(random, depth, out);
            out.push_str(" AND ");
            operand(random, depth, out);
        }
        49..=55 => {
            operand(random, 0, out);
            out.push_str(random.one_of(&[" IN (", " NOT IN ("]));
            for n in 0..random.below(8) + usize::from(random.percent(95)) {
                out.push_str(if n > 0 { ", " } else { "" });
                out.push_str(random.one_of(TEXTS));
            }
            out.push(')');
        }
        56..=59 => operand(random, depth, out),
        60..=69 => {
            out.push_str("NOT ");
            nested(random, depth, out);
        }
        _ => {
            for n in 0..=1 + random.below(3) {
                if n > 0 {
                    out.push_str(if kind < 86 { " AND " } else { " OR " });
                }
                if random.percent(60) {
                    condition(random, depth - 1, out)
                } else {
                    nested(random, depth, out)
                }
            }
        }
    }
}

fn nested(random: &mut Random, depth: usize, out: &mut String) {
    out.push('(');
    condition(random, depth.saturating_sub(1), out);
    out.push(')');
}

fn operand(random: &mut Random, depth: usize, out: &mut String) {
    match random.below(100) {
        0..=49 => out.push_str(random.one_of(NAMES)),
        50..=69 => out.push_str(random.one_of(NUMBERS)),
        70..=79 => out.push_str(random.one_of(TEXTS)),
        80..=84 => out.push_str(random.one_of(&["TRUE", "FALSE", "NULL", "true"])),
        85..=92 => {
            out.push_str(random.one_of(&["-", "+", "- ", "-+"]));
            operand(random, depth, out);
        }
        _ if depth > 0 => nested(random, depth, out),
        _ => out.push_str(random.one_of(NAMES)),
    }
}

fn expression(random: &mut Random) -> String {
    let mut text = String::new();
    if random.percent(6) {
        for _ in 0..random.below(12) {
            text.push_str(random.one_of(TOKENS));
            text.push_str(random.one_of(&["", " "]));
        }
        return text;
    }
    let depth = random.below(4);
    condition(random, depth, &mut text);
    // Some with a token too many, one too few, or other blanks.
    while random.percent(18) {
        let at = text
            .char_indices()
            .nth(random.below(text.chars().count().max(1)))
            .map_or(0, |(at, _)| at);
        if random.percent(60) {
            let token = random.one_of(TOKENS);
            text.insert_str(at, &format!(" {token} "));
        } else if at < text.len() {
            text.remove(at);
        }
    }
    text
}

/// The properties of a message as they are stored.
fn message(random: &mut Random) -> Vec<u8> {
    let mut stored = Vec::new();
    for _ in 0..random.below(9) {
        stored.extend_from_slice(random.one_of(NAMES).as_bytes());
        stored.push(1);
        stored.extend_from_slice(random.one_of(VALUES).as_bytes());
        if random.percent(2) {
            stored.push(0xff);
        }
        stored.push(2);
    }
    if random.percent(30) {
        stored.pop();
    }
    stored
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn ours(text: &str, messages: &[Vec<u8>]) -> String {
    let letter = |verdict| match verdict {
        Verdict::True => 'T',
        Verdict::False => 'F',
        Verdict::Null => 'N',
        Verdict::Error => 'E',
    };
    match Expression::parse(text, &SqlLimits::default()) {
        Ok(expression) => messages.iter().map(|stored| letter(expression.evaluate(stored))).collect(),
        Err(_) => REFUSED.to_owned(),
    }
}

const MESSAGES: usize = 4;
const REFUSED: &str = "REFUSED";

fn compare(seed: u64, expressions: usize, apache: &mut Command) -> ExitCode {
    let begun = Instant::now();
    let cases = move || {
        let mut random = Random(seed);
        (0..expressions).map(move |_| {
            let text = expression(&mut random);
            let messages: Vec<Vec<u8>> = (0..MESSAGES).map(|_| message(&mut random)).collect();
            (text, messages)
        })
    };
    let mut apache = apache
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the other filter starts");
    let mut lines = apache.stdin.take().unwrap();
    let writing = std::thread::spawn(move || {
        for (text, messages) in cases() {
            let messages: String = messages.iter().map(|stored| format!(" {}", hex(stored))).collect();
            writeln!(lines, "{}{messages}", hex(text.as_bytes())).expect("the other filter reads");
        }
    });
    let mut theirs = BufReader::new(apache.stdout.take().unwrap()).lines();
    let (mut different, mut refused, mut counts) = (0, 0, [0usize; 4]);
    for (text, messages) in cases() {
        let wanted = theirs.next().expect("an answer for each expression").unwrap();
        if wanted == REFUSED {
            refused += 1;
        } else {
            wanted.chars().for_each(|letter| counts["TFNE".find(letter).unwrap()] += 1);
        }
        let found = ours(&text, &messages);
        if found != wanted {
            different += 1;
            if different <= 20 {
                let messages: Vec<_> = messages.iter().map(|stored| String::from_utf8_lossy(stored)).collect();
                println!("seed {seed}: {text:?} on {messages:?}: Apache's filter says {wanted}, ours {found}");
            }
        }
    }
    writing.join().unwrap();
    apache.wait().unwrap();
    let [yes, no, null, error] = counts;
    println!(
        "seed {seed}: {expressions} expressions, {refused} refused; {yes} true, {no} false, {null} null, {error} failed; {different} different; {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    println!("{} passed, {} failed", u8::from(different == 0), u8::from(different > 0));
    ExitCode::from(u8::from(different > 0))
}

/// What clients and the broker store beside the properties of the application.
fn usual() -> Builder {
    Builder::new()
        .with("UNIQ_KEY", "7F00000100002A9F0000000000001234")
        .with("CLUSTER", "DefaultCluster")
        .with("WAIT", "true")
        .with("KEYS", "order-4711")
        .with("TAGS", "created")
        .with("MSG_REGION", "DefaultRegion")
        .with("TRACE_ON", "true")
}

/// Time that the main thread spent on a processor: other processes do not count.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/self/schedstat").expect("Linux");
    Duration::from_nanos(text.split(' ').next().and_then(|ns| ns.parse().ok()).expect("nanoseconds"))
}

fn speed() {
    let stored = usual()
        .with("region", "eu")
        .with("amount", "250")
        .with("kind", "book")
        .with("coupon", "SUMMER-5")
        .build();
    for text in [
        "region = 'eu' AND amount > 100 AND kind IN ('book', 'game') AND coupon IS NOT NULL",
        "amount BETWEEN 100 AND 300 AND region <> 'us' AND kind STARTSWITH 'bo' AND coupon CONTAINS 'MER'",
        "region = 'us' OR amount > 500.5 OR kind = 'pen' OR TAGS = 'created'",
        "region = 'eu'",
    ] {
        let expression = Expression::parse(text, &SqlLimits::default()).unwrap();
        assert_eq!(expression.evaluate(&stored), Verdict::True);
        let (begun, mut count) = (cpu_time(), 0u64);
        while cpu_time() - begun < Duration::from_secs(1) {
            for _ in 0..10_000 {
                black_box(black_box(&expression).evaluate(black_box(&stored)));
            }
            count += 10_000;
        }
        let each = (cpu_time() - begun).as_secs_f64() / count as f64;
        println!("{:5.2} million a second, {:3.0} ns each: {text}", 1e-6 / each, each * 1e9);
    }
}
