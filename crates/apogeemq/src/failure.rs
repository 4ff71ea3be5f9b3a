//! Errors that end the program, with advice. Untrusted text in them is escaped.

use std::fmt;
use std::process::ExitCode;

use message::text;

/// An error for the user at the terminal.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    advice: Option<String>,
    code: u8,
}

impl Failure {
    /// An error without advice.
    pub(crate) fn new(what: impl fmt::Display) -> Self {
        Self {
            what: what.to_string(),
            advice: None,
            code: 1,
        }
    }

    /// Adds advice.
    pub(crate) fn advice(self, advice: impl fmt::Display) -> Self {
        Self {
            advice: Some(advice.to_string()),
            ..self
        }
    }

    /// Ends the program with another exit code than 1.
    pub(crate) fn exit_code(self, code: u8) -> Self {
        Self { code, ..self }
    }

    /// The exit code of the program.
    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::lines(&self.what))?;
        self.advice.as_ref().map_or(Ok(()), |advice| write!(f, "\n{}", text::lines(advice)))
    }
}
