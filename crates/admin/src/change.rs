//! Results of several steps, and of changes at several servers.

use serde::Serialize;

use crate::Error;
use crate::error::advice;

/// A result of several steps, each of which may fail independently.
pub trait Steps {
    /// Number of failed steps and of all steps.
    fn failed_of(&self) -> (usize, usize);

    /// The error for the failed steps.
    ///
    /// # Errors
    /// [`Error::Partly`] if any step failed.
    fn check(&self) -> Result<(), Error> {
        match self.failed_of() {
            (0, _) => Ok(()),
            (failed, steps) => Err(Error::Partly { failed, steps }),
        }
    }
}

/// One step at one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The server, `host:port`.
    pub at: String,
    /// Description of the step.
    pub step: String,
    /// Why it failed; absent if it succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// All steps of an operation, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// The steps.
    pub changes: Vec<Change>,
}

impl Changes {
    /// Adds a step with its outcome. Returns whether it succeeded.
    pub fn note<T>(&mut self, at: &str, step: impl Into<String>, outcome: Result<T, client::Error>) -> bool {
        let error = outcome.err().map(|error| match advice(&error) {
            Some(advice) => format!("{error}. {advice}"),
            None => error.to_string(),
        });
        let succeeded = error.is_none();
        let (at, step) = (at.to_owned(), step.into());
        self.changes.push(Change { at, step, error });
        succeeded
    }

    /// Adds the steps of another part of the operation.
    pub fn append(&mut self, other: Self) {
        self.changes.extend(other.changes);
    }

    /// Number of failed steps.
    pub fn failed(&self) -> usize {
        self.changes.iter().filter(|change| change.error.is_some()).count()
    }
}

impl Steps for Changes {
    fn failed_of(&self) -> (usize, usize) {
        (self.failed(), self.changes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failed_step_makes_the_operation_fail_and_says_why() {
        let mut changes = Changes::default();
        assert!(changes.note("a:1", "create topic t", Ok(())));
        assert!(changes.check().is_ok());
        let refused = client::Error::Busy {
            address: "b:1".to_owned(),
            remark: "full".to_owned(),
        };
        assert!(!changes.note::<()>("b:1", "create topic t", Err(refused)));
        assert_eq!(changes.check().unwrap_err().to_string(), "1 of 2 steps failed, see above");
        assert_eq!(changes.changes[1].error.as_deref(), Some("b:1 is busy: full. Try again later."));
    }
}
