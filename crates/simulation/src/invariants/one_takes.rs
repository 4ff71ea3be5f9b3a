//! A master takes no message after a later one has begun to: its lease is over before.

use super::{Check, broken};

/// Who takes messages.
#[derive(Debug, Default)]
pub(crate) struct Taking {
    last: Option<(i32, i64)>,
}

impl Taking {
    /// A master takes a message.
    pub(crate) fn takes(&mut self, epoch: i32, id: i64) -> Check {
        if let Some((later, other)) = self.last.filter(|(later, _)| *later > epoch) {
            return broken(
                "one_takes",
                format!("broker {id} takes a message in epoch {epoch}, and {other} has taken one in epoch {later}"),
            );
        }
        self.last = Some((epoch, id));
        Ok(())
    }
}
