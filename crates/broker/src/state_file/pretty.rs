//! JSON in the layout of Java's serializer: tabs, no space after a colon, lists on one line.

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};
use std::io::{self, Write};

/// Formats a table like Apache's files.
pub fn pretty<T: Serialize>(table: &T) -> Vec<u8> {
    let mut out = Vec::new();
    let tabs = Tabs { depth: 0, empty: true };
    // Keys of tables are strings or integers and the output is memory: serialization cannot fail.
    if let Err(error) = table.serialize(&mut Serializer::with_formatter(&mut out, tabs)) {
        tracing::error!(%error, "table cannot be written as JSON");
    }
    out
}

struct Tabs {
    depth: usize,
    empty: bool,
}

impl Tabs {
    fn line<W: ?Sized + Write>(&self, out: &mut W) -> io::Result<()> {
        out.write_all(b"\n")?;
        (0..self.depth).try_for_each(|_| out.write_all(b"\t"))
    }
}

impl Formatter for Tabs {
    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.depth += 1;
        self.empty = true;
        out.write_all(b"{")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if !first {
            out.write_all(b",")?;
        }
        self.empty = false;
        self.line(out)
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.depth -= 1;
        if !std::mem::replace(&mut self.empty, false) {
            self.line(out)?;
        }
        out.write_all(b"}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn each_member_of_an_object_has_its_own_line() {
        let inner = BTreeMap::from([("x", 1), ("y", 2)]);
        let table = BTreeMap::from([("a", inner), ("b", BTreeMap::new())]);
        let expected = "{\n\t\"a\":{\n\t\t\"x\":1,\n\t\t\"y\":2\n\t},\n\t\"b\":{}\n}";
        assert_eq!(String::from_utf8(pretty(&table)).unwrap(), expected);
        assert_eq!(pretty(&vec![1, 2]), b"[1,2]");
    }
}
