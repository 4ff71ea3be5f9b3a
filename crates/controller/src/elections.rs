//! Which broker names have an election that is being agreed on. Pure state.
//!
//! An election is decided by who was alive when it began. A master that is heard again meanwhile is replaced all the same when the controllers
//! agree. So until then nobody is told who the master is: the lease that such an answer begins would outlast the election.
//!
//! ```text
//! begin ─► who is alive is read ─► the controllers agree ─► applied ─► end
//! └────────── questions for the master are answered with "busy" ──────────┘
//! ```
//!
//! Invariant: a question that begins while no election is open is answered after each earlier election was applied, and a later one knows the
//! heartbeats that came before the question.
//!
//! A leader elects nobody before it knows which leases the last one may have confirmed ([`Elections::serve`]).
//!
//! An election belongs to the term of the leader that began it. In a later term it is in the log, and applied before the new leader answers
//! anything, or it is gone.

use std::collections::HashMap;

/// See the module. At most one election for each name.
#[derive(Debug, Default)]
pub struct Elections {
    /// With the term in which it began.
    open: HashMap<String, u64>,
    /// The term in which there may be elections.
    served: Option<u64>,
}

impl Elections {
    /// From now on this term has elections: the leases of the masters are known ([`crate::alive::Alive::leads`]).
    pub fn serve(&mut self, term: u64) {
        self.served = Some(term);
    }

    /// Whether this term has elections.
    #[must_use]
    pub fn serves(&self, term: u64) -> bool {
        self.served == Some(term)
    }

    /// Begins an election, before who is alive is read. False if one is open, or this term has none yet.
    #[must_use]
    pub fn begin(&mut self, broker: &str, term: u64) -> bool {
        let is_free = self.serves(term) && !self.is_open(broker, term);
        if is_free {
            self.open.insert(broker.to_owned(), term);
        }
        is_free
    }

    /// An election is applied, or will never be.
    pub fn end(&mut self, broker: &str, term: u64) {
        if self.is_open(broker, term) {
            self.open.remove(broker);
        }
    }

    /// Whether an election of this name may still be applied in this term. To be asked before the state is read.
    #[must_use]
    pub fn is_open(&self, broker: &str, term: u64) -> bool {
        self.open.get(broker) == Some(&term)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_election_in_a_term() {
        let mut elections = Elections::default();
        assert!(!elections.begin("a", 3), "no leases are known");
        elections.serve(3);
        assert!(elections.begin("a", 3) && elections.is_open("a", 3) && !elections.is_open("b", 3));
        assert!(!elections.begin("a", 3) && elections.begin("b", 3));
        elections.end("a", 3);
        assert!(!elections.is_open("a", 3) && elections.is_open("b", 3));
    }

    #[test]
    fn an_election_of_an_earlier_term_hinders_nobody() {
        let mut elections = Elections::default();
        elections.serve(3);
        assert!(elections.begin("a", 3));
        assert!(!elections.is_open("a", 5) && !elections.begin("a", 5));
        elections.serve(5);
        assert!(elections.begin("a", 5));
        // The old one ends at last.
        elections.end("a", 3);
        assert!(elections.is_open("a", 5));
    }
}
