//! From tokens to a program, with the checks that Apache makes when it compiles.

use super::number;
use super::program::{Builder, Node, NodeId, Order, Part, Program, Span};
use super::token::{Placed, Token, Tokens};
use super::{MAX_PROPERTIES, SqlError, SqlLimits};
use smallvec::{SmallVec, smallvec};
use std::cmp::Ordering;

/// Compiles a text.
pub(super) fn parse(text: &str, limits: &SqlLimits) -> Result<Program, SqlError> {
    if text.len() > limits.bytes {
        let why = format!(
            "the expression has {} bytes, allowed are {} (apogeeMaxFilterBytes)",
            text.len(),
            limits.bytes
        );
        return Err(SqlError { at: 1, why });
    }
    let mut parser = Parser {
        text,
        limits,
        tokens: Tokens::of(text),
        program: Builder::default(),
        terms: 0,
        nesting: 0,
    };
    let whole = parser.or()?;
    let root = parser.boolean(whole)?;
    // Compat: what follows is not looked at, but for its first token.
    let next = parser.tokens.peek();
    if let Token::Unknown(_) | Token::OpenText = next.token {
        return Err(parser.unexpected(next, "an operator or the end"));
    }
    Ok(parser.program.finish(root))
}

/// What is known of an operand while the rest is compiled.
#[derive(Clone, Copy)]
struct Operand {
    id: NodeId,
    kind: Kind,
    /// Levels of nodes, itself included: how deep an evaluation goes.
    depth: usize,
    /// Where it begins, in bytes.
    at: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Property,
    Number,
    Text,
    /// `TRUE` or `FALSE`.
    Bool,
    Null,
    /// An operation that gives a boolean or null.
    Boolean,
    /// A minus sign before something.
    Negated,
}

struct Parser<'a> {
    text: &'a str,
    limits: &'a SqlLimits,
    tokens: Tokens<'a>,
    program: Builder,
    terms: usize,
    /// Parentheses and signs that are open: how deep the parser itself is.
    nesting: usize,
}

impl<'a> Parser<'a> {
    fn or(&mut self) -> Result<Operand, SqlError> {
        self.chain(Token::Or, Self::and, Node::Or)
    }

    fn and(&mut self) -> Result<Operand, SqlError> {
        self.chain(Token::And, Self::equality, Node::And)
    }

    /// Operands joined by one word: one node, however many there are.
    fn chain(
        &mut self,
        word: Token<'a>,
        operand: fn(&mut Self) -> Result<Operand, SqlError>,
        node: fn(Span) -> Node,
    ) -> Result<Operand, SqlError> {
        let first = operand(self)?;
        if self.tokens.peek().token != word {
            return Ok(first);
        }
        let mut ids: SmallVec<[NodeId; 16]> = smallvec![self.boolean(first)?];
        let mut depth = first.depth;
        while self.tokens.take_if(word) {
            let next = operand(self)?;
            ids.push(self.boolean(next)?);
            depth = depth.max(next.depth);
        }
        let span = self.program.list(&ids);
        self.operation(node(span), first.at, depth)
    }

    fn equality(&mut self) -> Result<Operand, SqlError> {
        let mut left = self.comparison()?;
        loop {
            match self.tokens.peek().token {
                Token::Equal => {
                    self.tokens.take();
                    left = self.equal(left)?;
                }
                Token::NotEqual => {
                    self.tokens.take();
                    let equal = self.equal(left)?;
                    left = self.operation(Node::Not(equal.id), left.at, equal.depth)?;
                }
                Token::Is => {
                    self.tokens.take();
                    let not = self.tokens.take_if(Token::Not);
                    self.expect(Token::Null, if not { "NULL" } else { "NULL or NOT NULL" })?;
                    let is_null = self.operation(Node::IsNull(left.id), left.at, left.depth)?;
                    left = is_null;
                    if not {
                        left = self.operation(Node::Not(is_null.id), left.at, is_null.depth)?;
                    }
                }
                _ => return Ok(left),
            }
        }
    }

    /// The operator `=` or `<>` was taken.
    fn equal(&mut self, left: Operand) -> Result<Operand, SqlError> {
        let right = self.comparison()?;
        for operand in [left, right] {
            if operand.kind == Kind::Null {
                return Err(self.error(operand.at, "NULL cannot be compared; use IS NULL or IS NOT NULL"));
            }
        }
        if left.kind == Kind::Bool && matches!(right.kind, Kind::Number | Kind::Text) {
            return Err(self.error(left.at, "a boolean cannot be compared with a number or a text"));
        }
        if left.kind == Kind::Property && right.kind == Kind::Property {
            self.program.compares_properties();
        }
        let depth = left.depth.max(right.depth);
        self.operation(Node::Equal(left.id, right.id), left.at, depth)
    }

    fn comparison(&mut self) -> Result<Operand, SqlError> {
        let mut left = self.unary()?;
        loop {
            let not = self.tokens.peek().token == Token::Not;
            let operator = if not { self.tokens.peek_second() } else { self.tokens.peek() };
            let order = match operator.token {
                Token::Greater => Order::Greater,
                Token::GreaterOrEqual => Order::GreaterOrEqual,
                Token::Less => Order::Less,
                Token::LessOrEqual => Order::LessOrEqual,
                Token::Contains | Token::StartsWith | Token::EndsWith | Token::Between | Token::In => {
                    if not {
                        self.tokens.take();
                    }
                    self.tokens.take();
                    left = match operator.token {
                        Token::Contains => self.matching(Part::Any, left, not)?,
                        Token::StartsWith => self.matching(Part::Start, left, not)?,
                        Token::EndsWith => self.matching(Part::End, left, not)?,
                        Token::Between => self.between(left, not)?,
                        _ => self.in_list(left, not)?,
                    };
                    continue;
                }
                _ if not => return Err(self.unexpected(operator, "CONTAINS, STARTSWITH, ENDSWITH, BETWEEN or IN after NOT")),
                _ => return Ok(left),
            };
            if not {
                return Err(self.unexpected(operator, "CONTAINS, STARTSWITH, ENDSWITH, BETWEEN or IN after NOT"));
            }
            self.tokens.take();
            let right = self.unary()?;
            self.check_ordered(&[left, right])?;
            let depth = left.depth.max(right.depth);
            left = self.operation(Node::Compare(order, left.id, right.id), left.at, depth)?;
        }
    }

    /// Only numbers and properties have an order.
    fn check_ordered(&self, operands: &[Operand]) -> Result<(), SqlError> {
        let wrong = |operand: &&Operand| !matches!(operand.kind, Kind::Property | Kind::Number | Kind::Negated);
        match operands.iter().find(wrong) {
            Some(wrong) => Err(self.error(wrong.at, "only numbers and properties can be compared by >, >=, <, <= and BETWEEN")),
            None => Ok(()),
        }
    }

    fn matching(&mut self, part: Part, of: Operand, not: bool) -> Result<Operand, SqlError> {
        let text = self.quoted()?;
        let node = Node::Match {
            part,
            of: of.id,
            text,
            not,
        };
        self.operation(node, of.at, of.depth)
    }

    fn between(&mut self, value: Operand, not: bool) -> Result<Operand, SqlError> {
        let low = self.unary()?;
        self.expect(Token::And, "AND between the two bounds")?;
        let high = self.unary()?;
        self.check_ordered(&[value, low, high])?;
        let bounds = (self.program.node(low.id), self.program.node(high.id));
        // Compat: the bounds of NOT BETWEEN are not checked.
        if !not && number::compare_literals(bounds.0, bounds.1) == Some(Ordering::Greater) {
            return Err(self.error(low.at, "the first bound of BETWEEN is greater than the second"));
        }
        let depth = value.depth.max(low.depth).max(high.depth);
        let operands = self.program.list(&[value.id, low.id, high.id]);
        self.operation(Node::Between { operands, not }, value.at, depth)
    }

    fn in_list(&mut self, of: Operand, not: bool) -> Result<Operand, SqlError> {
        self.expect(Token::Open, "'(' after IN")?;
        let mut texts: SmallVec<[Span; 8]> = smallvec![self.quoted()?];
        while self.tokens.take_if(Token::Comma) {
            texts.push(self.quoted()?);
        }
        self.expect(Token::Close, "',' or ')'")?;
        if of.kind != Kind::Property {
            return Err(self.error(of.at, "IN needs a property on its left"));
        }
        let elements = self.program.elements(texts);
        let node = Node::In {
            property: of.id,
            elements,
            not,
        };
        self.operation(node, of.at, of.depth)
    }

    fn unary(&mut self) -> Result<Operand, SqlError> {
        let next = self.tokens.peek();
        match next.token {
            Token::Plus => {
                self.tokens.take();
                self.nested(next.at, Self::unary)
            }
            Token::Minus => {
                self.tokens.take();
                let of = self.nested(next.at, Self::unary)?;
                let negated = self.operation(Node::Negate(of.id), next.at, of.depth)?;
                Ok(Operand {
                    kind: Kind::Negated,
                    ..negated
                })
            }
            Token::Not => {
                self.tokens.take();
                let of = self.nested(next.at, Self::unary)?;
                let id = self.boolean(of)?;
                self.operation(Node::Not(id), next.at, of.depth)
            }
            _ => self.primary(),
        }
    }

    fn nested(&mut self, at: usize, inner: fn(&mut Self) -> Result<Operand, SqlError>) -> Result<Operand, SqlError> {
        self.nesting += 1;
        self.check_depth(self.nesting, at)?;
        let operand = inner(self);
        self.nesting -= 1;
        operand
    }

    fn primary(&mut self) -> Result<Operand, SqlError> {
        let next = self.tokens.take();
        let (node, kind) = match next.token {
            Token::Open => {
                let inner = self.nested(next.at, Self::or)?;
                self.expect(Token::Close, "an operator or ')'")?;
                return Ok(Operand { at: next.at, ..inner });
            }
            Token::Text(quoted) => (Node::Text(self.program.text(quoted)), Kind::Text),
            Token::Integer(digits) => match number::integer_literal(digits) {
                Some(node) => (node, Kind::Number),
                None => return Err(self.error(next.at, "the number does not fit into 64 bits")),
            },
            Token::Double(digits) => match number::double_literal(digits) {
                Some(value) => (Node::Double(value), Kind::Number),
                None => return Err(self.error(next.at, "the number is not between 4.9E-324 and 1.7976931348623157E308")),
            },
            Token::True => (Node::Bool(true), Kind::Bool),
            Token::False => (Node::Bool(false), Kind::Bool),
            Token::Null => (Node::Null, Kind::Null),
            Token::Name(name) => match self.program.property(name, MAX_PROPERTIES) {
                Some(number) => (Node::Property(number), Kind::Property),
                None => {
                    let why = format!(
                        "this is the {}th property, an expression may use {MAX_PROPERTIES}",
                        MAX_PROPERTIES + 1
                    );
                    return Err(self.error(next.at, &why));
                }
            },
            _ => return Err(self.unexpected(next, "a property, a number, a text in single quotes, TRUE, FALSE, NULL, NOT or '('")),
        };
        self.count_term(next.at)?;
        Ok(Operand {
            id: self.program.add(node),
            kind,
            depth: 1,
            at: next.at,
        })
    }

    /// A text literal where nothing else may stand.
    fn quoted(&mut self) -> Result<Span, SqlError> {
        let next = self.tokens.take();
        let Token::Text(quoted) = next.token else {
            return Err(self.unexpected(next, "a text in single quotes"));
        };
        self.count_term(next.at)?;
        Ok(self.program.text(quoted))
    }

    /// An operand where a boolean is needed.
    fn boolean(&mut self, operand: Operand) -> Result<NodeId, SqlError> {
        match operand.kind {
            Kind::Boolean | Kind::Bool | Kind::Null => Ok(operand.id),
            Kind::Property => Ok(self.program.add(Node::Truth(operand.id))),
            Kind::Number | Kind::Text | Kind::Negated => {
                Err(self.error(operand.at, "this is a number or a text, a condition is needed here"))
            }
        }
    }

    fn operation(&mut self, node: Node, at: usize, depth_below: usize) -> Result<Operand, SqlError> {
        let depth = depth_below + 1;
        self.check_depth(depth, at)?;
        Ok(Operand {
            id: self.program.add(node),
            kind: Kind::Boolean,
            depth,
            at,
        })
    }

    fn check_depth(&self, depth: usize, at: usize) -> Result<(), SqlError> {
        if depth <= self.limits.depth {
            return Ok(());
        }
        let why = format!(
            "the expression is nested deeper than {} levels (apogeeMaxFilterDepth)",
            self.limits.depth
        );
        Err(self.error(at, &why))
    }

    fn count_term(&mut self, at: usize) -> Result<(), SqlError> {
        self.terms += 1;
        if self.terms <= self.limits.terms {
            return Ok(());
        }
        let why = format!(
            "the expression has more than {} literals and properties (apogeeMaxFilterTerms)",
            self.limits.terms
        );
        Err(self.error(at, &why))
    }

    fn expect(&mut self, wanted: Token<'a>, what: &str) -> Result<(), SqlError> {
        let next = self.tokens.take();
        if next.token == wanted {
            Ok(())
        } else {
            Err(self.unexpected(next, what))
        }
    }

    fn unexpected(&self, found: Placed<'_>, wanted: &str) -> SqlError {
        let found_text = match found.token {
            Token::End => "the end".to_owned(),
            Token::OpenText => "a text without its closing quote".to_owned(),
            _ => {
                let rest = &self.text[found.at..];
                let word = rest
                    .split([' ', '\t', '\n', '\r', '\x0c', '(', ')', ','])
                    .next()
                    .unwrap_or_default();
                let shown: String = if word.is_empty() {
                    rest.chars().take(1)
                } else {
                    word.chars().take(32)
                }
                .collect();
                format!("'{shown}'")
            }
        };
        self.error(found.at, &format!("expected {wanted}, found {found_text}"))
    }

    fn error(&self, at: usize, why: &str) -> SqlError {
        SqlError {
            at: self.text[..at].chars().count() + 1,
            why: why.to_owned(),
        }
    }
}
