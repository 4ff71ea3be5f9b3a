//! The compiled form: nodes in one list, each behind those it uses, and all texts in one buffer.

use message::properties;
use smallvec::SmallVec;

/// Index of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NodeId(pub(super) u32);

/// A part of [`Program::texts`], [`Program::lists`] or [`Program::elements`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// An order that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

/// Which part of a text is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Any,
    Start,
    End,
}

/// One operation or operand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Int(i32),
    Long(i64),
    Double(f64),
    /// In [`Program::texts`].
    Text(Span),
    /// Number of a property in [`Program::names`].
    Property(u8),
    Negate(NodeId),
    Not(NodeId),
    /// A property where a boolean is needed.
    Truth(NodeId),
    /// Operands in [`Program::lists`].
    And(Span),
    /// Operands in [`Program::lists`].
    Or(Span),
    Equal(NodeId, NodeId),
    IsNull(NodeId),
    Compare(Order, NodeId, NodeId),
    /// Value and bounds in [`Program::lists`].
    Between {
        operands: Span,
        not: bool,
    },
    /// Elements in [`Program::elements`], sorted.
    In {
        property: NodeId,
        elements: Span,
        not: bool,
    },
    Match {
        part: Part,
        of: NodeId,
        text: Span,
        not: bool,
    },
}

/// A compiled expression.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Program {
    nodes: Box<[Node]>,
    lists: Box<[NodeId]>,
    elements: Box<[Span]>,
    texts: Box<str>,
    names: Box<[Box<str>]>,
    /// Bit n: a name has n bytes; the last bit stands for all longer ones.
    name_lengths: u64,
    /// A text has U+FFFD, or two properties are compared: properties that are not UTF-8 have to be read as Java reads them.
    compares_decoded: bool,
    root: NodeId,
}

fn length_bit(length: usize) -> u64 {
    1 << length.min(63)
}

impl Program {
    pub(super) fn root(&self) -> NodeId {
        self.root
    }

    pub(super) fn node(&self, id: NodeId) -> Node {
        self.nodes[id.0 as usize]
    }

    pub(super) fn list(&self, span: Span) -> &[NodeId] {
        &self.lists[span.range()]
    }

    pub(super) fn text(&self, span: Span) -> &[u8] {
        &self.texts.as_bytes()[span.range()]
    }

    pub(super) fn elements(&self, span: Span) -> &[Span] {
        &self.elements[span.range()]
    }

    pub(super) fn names(&self) -> usize {
        self.names.len()
    }

    pub(super) fn compares_decoded(&self) -> bool {
        self.compares_decoded
    }

    /// Finds the values of the properties in one pass. Those that are missing stay empty: no stored property is.
    pub(super) fn find<'a, const N: usize>(&self, stored: &'a [u8]) -> [&'a [u8]; N] {
        let mut values: [&[u8]; N] = [&[]; N];
        properties::for_each(stored, |name, value| {
            if self.name_lengths & length_bit(name.len()) != 0
                && let Some(at) = self.position(name)
            {
                values[at] = value;
            }
        });
        values
    }

    fn position(&self, name: &[u8]) -> Option<usize> {
        // Most names of the same length differ in the first byte, which costs no call.
        let is_same = |known: &str| known.as_bytes().first() == name.first() && known.as_bytes() == name;
        self.names.iter().position(|known| is_same(known))
    }

    pub(super) fn memory(&self) -> usize {
        let names: usize = self.names.iter().map(|name| name.len() + 32).sum();
        size_of::<Self>() + size_of_val(&*self.nodes) + size_of_val(&*self.lists) + size_of_val(&*self.elements) + self.texts.len() + names
    }
}

/// Collects the parts of a program.
#[derive(Default)]
pub(super) struct Builder {
    nodes: Vec<Node>,
    lists: Vec<NodeId>,
    elements: Vec<Span>,
    texts: String,
    names: Vec<Box<str>>,
    compares_decoded: bool,
}

impl Builder {
    pub(super) fn add(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        NodeId(self.nodes.len() as u32 - 1)
    }

    pub(super) fn node(&self, id: NodeId) -> Node {
        self.nodes[id.0 as usize]
    }

    pub(super) fn list(&mut self, ids: &[NodeId]) -> Span {
        let start = self.lists.len() as u32;
        self.lists.extend_from_slice(ids);
        Span {
            start,
            end: self.lists.len() as u32,
        }
    }

    /// Adds a text of which quotes are doubled.
    pub(super) fn text(&mut self, quoted: &str) -> Span {
        let start = self.texts.len() as u32;
        let mut parts = quoted.split("''");
        self.texts.push_str(parts.next().unwrap_or_default());
        for part in parts {
            self.texts.push('\'');
            self.texts.push_str(part);
        }
        self.compares_decoded |= quoted.contains(char::REPLACEMENT_CHARACTER);
        Span {
            start,
            end: self.texts.len() as u32,
        }
    }

    /// Adds the elements of a list of texts.
    pub(super) fn elements(&mut self, mut texts: SmallVec<[Span; 8]>) -> Span {
        let all = self.texts.as_bytes();
        texts.sort_unstable_by(|a, b| all[a.range()].cmp(&all[b.range()]));
        let start = self.elements.len() as u32;
        self.elements.extend(texts);
        Span {
            start,
            end: self.elements.len() as u32,
        }
    }

    /// The number of a property; `None` if there are `most` others already.
    pub(super) fn property(&mut self, name: &str, most: usize) -> Option<u8> {
        let at = self.names.iter().position(|known| **known == *name).unwrap_or(self.names.len());
        if at == self.names.len() {
            if at >= most {
                return None;
            }
            self.names.push(name.into());
        }
        u8::try_from(at).ok()
    }

    /// Two texts are compared of which neither is a literal.
    pub(super) fn compares_properties(&mut self) {
        self.compares_decoded = true;
    }

    pub(super) fn finish(self, root: NodeId) -> Program {
        Program {
            name_lengths: self.names.iter().fold(0, |bits, name| bits | length_bit(name.len())),
            nodes: self.nodes.into(),
            lists: self.lists.into(),
            elements: self.elements.into(),
            texts: self.texts.into(),
            names: self.names.into(),
            compares_decoded: self.compares_decoded,
            root,
        }
    }
}
