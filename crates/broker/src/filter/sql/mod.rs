//! SQL92 expressions over the properties of a message, as Apache's `SqlFilter` has them.
//!
//! ```text
//! or         = and { OR and }
//! and        = equality { AND equality }
//! equality   = comparison { (= | <>) comparison | IS [NOT] NULL }
//! comparison = unary { (> | >= | < | <=) unary | [NOT] (CONTAINS | STARTSWITH | ENDSWITH) text
//!                    | [NOT] BETWEEN unary AND unary | [NOT] IN ( text { , text } ) }
//! unary      = (+ | - | NOT) unary | primary
//! primary    = text | number | TRUE | FALSE | NULL | property | ( or )
//! ```
//!
//! Life of an expression: text becomes tokens ([`token`]), tokens become a flat list of nodes that name each other by index
//! ([`grammar`], [`program`]), and the nodes are evaluated on the property bytes of each record ([`evaluate`]). An evaluation
//! allocates nothing, unless a property is not UTF-8 and its text is compared with U+FFFD or with another property.
//!
//! Values are `NULL`, booleans, integers of 32 and 64 bits, doubles, and texts; a property is always a text. A property that is compared
//! with a number or a boolean is parsed as Java parses it, and the whole evaluation fails if it is no number. A message is selected only
//! if its verdict is [`Verdict::True`].
//!
//! Compat, all kept: what follows a complete expression is ignored (`a = 1 b` is `a = 1`); `NOT a = 1` is `(NOT a) = 1`; two missing
//! properties are equal; a property alone is never true, whatever its text; texts are ordered as doubles; a literal of 0.0 is refused.

mod evaluate;
mod grammar;
mod number;
mod program;
#[cfg(test)]
mod tests;
mod token;

use program::Program;
use std::fmt;

/// Bounds of one expression; each is a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SqlLimits {
    /// Length of the text in bytes: `apogeeMaxFilterBytes`.
    pub bytes: usize,
    /// Literals, properties and list elements: `apogeeMaxFilterTerms`.
    pub terms: usize,
    /// Levels of nesting: `apogeeMaxFilterDepth`.
    pub depth: usize,
}

impl Default for SqlLimits {
    fn default() -> Self {
        Self {
            bytes: 16 << 10,
            terms: 1_024,
            depth: 64,
        }
    }
}

/// Maximum number of different properties in one expression.
pub const MAX_PROPERTIES: usize = 64;

/// A compiled expression.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression(Program);

/// Result of an evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The message is selected.
    True,
    /// It is not.
    False,
    /// Unknown because a property is missing; the message is not selected.
    Null,
    /// The properties cannot be compared as the expression asks; the message is not selected.
    Error,
}

/// Why a text is not an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlError {
    /// Where, in characters from 1.
    pub at: usize,
    /// What is wrong there.
    pub why: String,
}

impl fmt::Display for SqlError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "at character {}: {}", self.at, self.why)
    }
}

impl std::error::Error for SqlError {}

impl Expression {
    /// Compiles a text.
    ///
    /// # Errors
    /// [`SqlError`] if the text is no expression, compares what cannot be compared, or exceeds one of the limits.
    pub fn parse(text: &str, limits: &SqlLimits) -> Result<Self, SqlError> {
        grammar::parse(text, limits).map(Self)
    }

    /// Evaluates the expression on a property string as it is stored ([`message::properties`]).
    #[must_use]
    pub fn evaluate(&self, properties: &[u8]) -> Verdict {
        evaluate::evaluate(&self.0, properties)
    }

    /// Whether a message with these properties is selected.
    #[must_use]
    pub fn selects(&self, properties: &[u8]) -> bool {
        self.evaluate(properties) == Verdict::True
    }

    /// Approximate size in memory, in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.0.memory()
    }
}
