//! Evaluation: three-valued logic over nodes, each evaluated at most once a message.

use super::MAX_PROPERTIES;
use super::Verdict;
use super::number::{compare_doubles, parse_double, parse_int, parse_long};
use super::program::{Node, NodeId, Order, Part, Program, Span};
use memchr::memmem;
use message::text::as_java_reads;
use std::cmp::Ordering;

/// Expressions with up to this many properties need less room on the stack.
const FEW: usize = 8;

/// Evaluates a program on a property string.
pub(super) fn evaluate(program: &Program, properties: &[u8]) -> Verdict {
    if program.names() <= FEW {
        evaluate_in::<FEW>(program, properties)
    } else {
        evaluate_in::<MAX_PROPERTIES>(program, properties)
    }
}

fn evaluate_in<const N: usize>(program: &Program, properties: &[u8]) -> Verdict {
    let values = program.find::<N>(properties);
    let evaluation = Evaluation {
        program,
        properties: &values,
    };
    match evaluation.value(program.root()) {
        Ok(Value::Bool(true)) => Verdict::True,
        Ok(Value::Null) => Verdict::Null,
        Ok(_) => Verdict::False,
        Err(Incomparable) => Verdict::Error,
    }
}

/// Values cannot be compared as the expression asks: where Java's evaluation throws.
struct Incomparable;

#[derive(Clone, Copy)]
enum Value<'a> {
    Null,
    Bool(bool),
    Int(i32),
    Long(i64),
    Double(f64),
    Text(&'a [u8]),
}

type Evaluated<'a> = Result<Value<'a>, Incomparable>;

struct Evaluation<'a> {
    program: &'a Program,
    /// Values by number of the property; empty if missing.
    properties: &'a [&'a [u8]],
}

impl<'a> Evaluation<'a> {
    fn value(&self, id: NodeId) -> Evaluated<'a> {
        Ok(match self.program.node(id) {
            Node::Null => Value::Null,
            Node::Bool(value) => Value::Bool(value),
            Node::Int(value) => Value::Int(value),
            Node::Long(value) => Value::Long(value),
            Node::Double(value) => Value::Double(value),
            Node::Text(text) => Value::Text(self.program.text(text)),
            Node::Property(number) => match self.properties[usize::from(number)] {
                [] => Value::Null,
                text => Value::Text(text),
            },
            Node::Negate(of) => match self.value(of)? {
                Value::Int(value) => Value::Int(value.wrapping_neg()),
                Value::Long(value) => Value::Long(value.wrapping_neg()),
                Value::Double(value) => Value::Double(-value),
                // Compat: a property is a text, even if it looks like a number.
                _ => Value::Null,
            },
            Node::Not(of) => match self.value(of)? {
                Value::Bool(value) => Value::Bool(!value),
                _ => Value::Null,
            },
            Node::Truth(of) => match self.value(of)? {
                Value::Null => Value::Null,
                // Compat: not even `true`.
                _ => Value::Bool(false),
            },
            Node::And(operands) => return self.logic(operands, false),
            Node::Or(operands) => return self.logic(operands, true),
            Node::Equal(left, right) => match (self.value(left)?, self.value(right)?) {
                (Value::Null, Value::Null) => Value::Bool(true),
                (Value::Null, _) => Value::Null,
                (_, Value::Null) => Value::Bool(false),
                (left, right) => Value::Bool(self.equal(left, right)?),
            },
            Node::IsNull(of) => Value::Bool(matches!(self.value(of)?, Value::Null)),
            Node::Compare(order, left, right) => {
                let left = self.value(left)?;
                return self.compare(order, left, right);
            }
            Node::Between { operands, not } => return self.between(operands, not),
            Node::In { property, elements, not } => match self.value(property)? {
                Value::Text(text) => Value::Bool(self.is_element(text, elements) ^ not),
                _ => Value::Null,
            },
            // Compat: never null; an empty text matches nothing and what is no text does not match, with NOT and without.
            Node::Match { part, of, text, not } => match self.program.text(text) {
                [] => Value::Bool(false),
                wanted => match self.value(of)? {
                    Value::Text(whole) => Value::Bool(self.matches(part, whole, wanted) ^ not),
                    _ => Value::Bool(false),
                },
            },
        })
    }

    /// Operands up to the first that `decides`; null if none does and one is null.
    fn logic(&self, operands: Span, decides: bool) -> Evaluated<'a> {
        let mut outcome = Value::Bool(!decides);
        for id in self.program.list(operands) {
            match self.value(*id)? {
                Value::Bool(value) if value == decides => return Ok(Value::Bool(decides)),
                Value::Bool(_) => {}
                _ => outcome = Value::Null,
            }
        }
        Ok(outcome)
    }

    /// The right side is not evaluated if the left one is null.
    fn compare(&self, order: Order, left: Value<'a>, right: NodeId) -> Evaluated<'a> {
        if let Value::Null = left {
            return Ok(Value::Null);
        }
        let found = match (left, self.value(right)?) {
            (_, Value::Null) => return Ok(Value::Null),
            (Value::Text(left), Value::Text(right)) => {
                let (left, right) = parse_double(left).zip(parse_double(right)).ok_or(Incomparable)?;
                compare_doubles(left, right)
            }
            (left, right) => order_of(left, right)?,
        };
        Ok(Value::Bool(match order {
            Order::Greater => found.is_gt(),
            Order::GreaterOrEqual => found.is_ge(),
            Order::Less => found.is_lt(),
            Order::LessOrEqual => found.is_le(),
        }))
    }

    /// `low <= value AND value <= high`, or `value < low OR value > high`.
    fn between(&self, operands: Span, not: bool) -> Evaluated<'a> {
        let &[value, low, high] = self.program.list(operands) else {
            return Err(Incomparable);
        };
        let value = self.value(value)?;
        let (first, second) = if not {
            (Order::Less, Order::Greater)
        } else {
            (Order::GreaterOrEqual, Order::LessOrEqual)
        };
        let first = self.compare(first, value, low)?;
        if let Value::Bool(decided) = first
            && decided == not
        {
            return Ok(first);
        }
        let second = self.compare(second, value, high)?;
        Ok(match (first, second) {
            (_, Value::Bool(decided)) if decided == not => second,
            (Value::Null, _) => Value::Null,
            _ => second,
        })
    }

    fn equal(&self, left: Value<'_>, right: Value<'_>) -> Result<bool, Incomparable> {
        match (left, right) {
            (Value::Text(left), Value::Text(right)) => Ok(self.same_text(left, right)),
            _ => order_of(left, right).map(Ordering::is_eq),
        }
    }

    /// Bytes that differ may be the same text if they are not UTF-8.
    fn same_text(&self, left: &[u8], right: &[u8]) -> bool {
        left == right || (self.program.compares_decoded() && as_java_reads(left) == as_java_reads(right))
    }

    fn is_element(&self, text: &[u8], elements: Span) -> bool {
        let elements = self.program.elements(elements);
        let has = |text: &[u8]| {
            let order = |element: &Span| self.program.text(*element).cmp(text);
            elements.binary_search_by(order).is_ok()
        };
        has(text) || (self.program.compares_decoded() && has(as_java_reads(text).as_bytes()))
    }

    /// A text that is UTF-8 is found in bytes that are not exactly where it is found in what they are read as: a malformed sequence
    /// ends before the next character begins.
    fn matches(&self, part: Part, whole: &[u8], wanted: &[u8]) -> bool {
        let found = |whole: &[u8]| match part {
            Part::Any => memmem::find(whole, wanted).is_some(),
            Part::Start => whole.starts_with(wanted),
            Part::End => whole.ends_with(wanted),
        };
        found(whole) || (self.program.compares_decoded() && found(as_java_reads(whole).as_bytes()))
    }
}

/// The order of two values of which not both are texts. Compat: `Less` for values of types that have no order.
fn order_of(left: Value<'_>, right: Value<'_>) -> Result<Ordering, Incomparable> {
    let doubles = |left, right| Ok(compare_doubles(left, right));
    let number = |parsed: Option<Ordering>| parsed.ok_or(Incomparable);
    match (left, right) {
        (Value::Bool(left), Value::Bool(right)) => Ok(left.cmp(&right)),
        // Compat: Java casts the boolean to a text, which throws.
        (Value::Bool(_), Value::Text(_)) => Err(Incomparable),
        (Value::Int(left), Value::Int(right)) => Ok(left.cmp(&right)),
        (Value::Int(left), Value::Long(right)) => Ok(i64::from(left).cmp(&right)),
        (Value::Int(left), Value::Double(right)) => doubles(left.into(), right),
        (Value::Int(left), Value::Text(right)) => number(parse_int(right).map(|right| left.cmp(&right))),
        (Value::Long(left), Value::Int(right)) => Ok(left.cmp(&right.into())),
        (Value::Long(left), Value::Long(right)) => Ok(left.cmp(&right)),
        (Value::Long(left), Value::Double(right)) => doubles(left as f64, right),
        (Value::Long(left), Value::Text(right)) => number(parse_long(right).map(|right| left.cmp(&right))),
        (Value::Double(left), Value::Int(right)) => doubles(left, right.into()),
        (Value::Double(left), Value::Long(right)) => doubles(left, right as f64),
        (Value::Double(left), Value::Double(right)) => doubles(left, right),
        (Value::Double(left), Value::Text(right)) => number(parse_double(right).map(|right| compare_doubles(left, right))),
        (Value::Text(left), Value::Bool(right)) => Ok(left.eq_ignore_ascii_case(b"true").cmp(&right)),
        (Value::Text(left), Value::Int(right)) => number(parse_int(left).map(|left| left.cmp(&right))),
        (Value::Text(left), Value::Long(right)) => number(parse_long(left).map(|left| left.cmp(&right))),
        (Value::Text(left), Value::Double(right)) => number(parse_double(left).map(|left| compare_doubles(left, right))),
        (Value::Text(left), Value::Text(right)) => Ok(left.cmp(right)),
        (Value::Bool(_) | Value::Int(_) | Value::Long(_) | Value::Double(_) | Value::Null, _) | (Value::Text(_), Value::Null) => {
            Ok(Ordering::Less)
        }
    }
}
