//! Output of results on standard output, as tables or as JSON.

use std::io::{self, Write};

use message::text;
use serde::Serialize;

use crate::Error;
use crate::show::Show;

/// Prints each result at once, so that a long run shows its progress.
pub(super) struct Out {
    json: bool,
    printed: bool,
}

impl Out {
    pub(super) fn new(json: bool) -> Self {
        Self { json, printed: false }
    }

    /// Prints a result: a JSON document in one line, or a table.
    pub(super) fn emit<T: Serialize + Show>(&mut self, result: &T) -> Result<(), Error> {
        if !self.json {
            return self.text(&result.shown());
        }
        let line = serde_json::to_string(result).map_err(|error| Error::Output(error.into()))?;
        self.text(&format!("{}\n", text::json(&line)))
    }

    /// Like [`Out::emit`], with an empty line between tables.
    pub(super) fn emit_apart<T: Serialize + Show>(&mut self, result: &T) -> Result<(), Error> {
        if self.printed && !self.json {
            self.text("\n")?;
        }
        self.emit(result)
    }

    /// Prints text unchanged.
    pub(super) fn text(&mut self, text: &str) -> Result<(), Error> {
        self.printed = true;
        let mut stdout = io::stdout().lock();
        stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush())
            .map_err(Error::Output)
    }
}
