//! Tokens of an expression, read one at a time: what follows a complete expression is never looked at.

use winnow::ascii::digit1;
use winnow::combinator::{alt, opt, repeat};
use winnow::stream::{LocatingSlice, Location, Stream};
use winnow::token::{any, one_of, take_till, take_until, take_while};
use winnow::{ModalResult, Parser};

/// A token; numbers and texts are slices of the expression.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Token<'a> {
    Not,
    And,
    Or,
    Between,
    In,
    True,
    False,
    Null,
    Is,
    Contains,
    StartsWith,
    EndsWith,
    /// Digits, maybe with `L` behind them.
    Integer(&'a str),
    /// With a point or an exponent.
    Double(&'a str),
    /// What stands between the quotes, with quotes doubled.
    Text(&'a str),
    Name(&'a str),
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    Open,
    Comma,
    Close,
    Plus,
    Minus,
    End,
    /// A quote without its end.
    OpenText,
    /// No token begins with this character.
    Unknown(char),
}

/// A token and where it begins, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed<'a> {
    pub(super) token: Token<'a>,
    pub(super) at: usize,
}

type Input<'a> = LocatingSlice<&'a str>;

/// The tokens of a text, with a look at the next two.
pub(super) struct Tokens<'a> {
    input: Input<'a>,
    ahead: [Option<Placed<'a>>; 2],
}

impl<'a> Tokens<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        Self {
            input: LocatingSlice::new(text),
            ahead: [None; 2],
        }
    }

    /// The next token, which stays the next.
    pub(super) fn peek(&mut self) -> Placed<'a> {
        if let Some(next) = self.ahead[0] {
            return next;
        }
        let next = read(&mut self.input);
        self.ahead[0] = Some(next);
        next
    }

    /// The token after the next.
    pub(super) fn peek_second(&mut self) -> Placed<'a> {
        self.peek();
        if let Some(second) = self.ahead[1] {
            return second;
        }
        let second = read(&mut self.input);
        self.ahead[1] = Some(second);
        second
    }

    /// Takes the next token.
    pub(super) fn take(&mut self) -> Placed<'a> {
        let next = self.peek();
        self.ahead = [self.ahead[1], None];
        next
    }

    /// Takes the next token if it is this one.
    pub(super) fn take_if(&mut self, wanted: Token<'a>) -> bool {
        let is_next = self.peek().token == wanted;
        if is_next {
            self.take();
        }
        is_next
    }
}

fn read<'a>(input: &mut Input<'a>) -> Placed<'a> {
    // Neither fails: blanks may be none, and any character is a token.
    let _: ModalResult<()> = blanks.parse_next(input);
    let at = input.current_token_start();
    let token = token.parse_next(input).unwrap_or(Token::End);
    Placed { token, at }
}

/// Blanks and comments. A comment to the end of the line needs that end; without it, its dashes are minus signs.
fn blanks(input: &mut Input<'_>) -> ModalResult<()> {
    let white = take_while(1.., [' ', '\t', '\n', '\r', '\x0c']).void();
    let line = ("--", take_till(0.., ['\n', '\r']), one_of(['\n', '\r'])).void();
    let block = ("/*", take_until(0.., "*/"), "*/").void();
    repeat(0.., alt((white, line, block))).parse_next(input)
}

fn token<'a>(input: &mut Input<'a>) -> ModalResult<Token<'a>> {
    alt((word, number, text, sign, any.map(Token::Unknown))).parse_next(input)
}

fn word<'a>(input: &mut Input<'a>) -> ModalResult<Token<'a>> {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_' || c == '$';
    let rest = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$';
    let word = (one_of(first), take_while(0.., rest)).take().parse_next(input)?;
    Ok(keyword(word).unwrap_or(Token::Name(word)))
}

fn keyword(word: &str) -> Option<Token<'static>> {
    const KEYWORDS: [(&str, Token<'static>); 12] = [
        ("NOT", Token::Not),
        ("AND", Token::And),
        ("OR", Token::Or),
        ("BETWEEN", Token::Between),
        ("IN", Token::In),
        ("TRUE", Token::True),
        ("FALSE", Token::False),
        ("NULL", Token::Null),
        ("IS", Token::Is),
        ("CONTAINS", Token::Contains),
        ("STARTSWITH", Token::StartsWith),
        ("ENDSWITH", Token::EndsWith),
    ];
    let found = KEYWORDS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
    found.map(|(_, token)| *token)
}

fn number<'a>(input: &mut Input<'a>) -> ModalResult<Token<'a>> {
    let decimal = (digit1, '.', opt(digit1), opt(exponent)).take();
    let fraction = ('.', digit1, opt(exponent)).take();
    let scaled = (digit1, exponent).take();
    let integer = alt((
        "0",
        (
            one_of('1'..='9'),
            take_while(0.., |c: char| c.is_ascii_digit()),
            opt(one_of(['l', 'L'])),
        )
            .take(),
    ));
    alt((alt((decimal, fraction, scaled)).map(Token::Double), integer.map(Token::Integer))).parse_next(input)
}

fn exponent(input: &mut Input<'_>) -> ModalResult<()> {
    (one_of(['e', 'E']), opt(one_of(['+', '-'])), digit1).void().parse_next(input)
}

/// A text in single quotes, in which two quotes stand for one.
fn text<'a>(input: &mut Input<'a>) -> ModalResult<Token<'a>> {
    let quote = || one_of('\'').void();
    let part = take_till(1.., '\'').void();
    let doubled = "''".void();
    let start = input.checkpoint();
    let mut whole = (quote(), repeat::<_, _, (), _, _>(0.., alt((part, doubled))).take(), quote());
    match whole.parse_next(input) {
        Ok(((), inner, ())) => Ok(Token::Text(inner)),
        Err(_) => {
            input.reset(&start);
            quote().value(Token::OpenText).parse_next(input)
        }
    }
}

fn sign<'a>(input: &mut Input<'a>) -> ModalResult<Token<'a>> {
    alt((
        "<>".value(Token::NotEqual),
        "<=".value(Token::LessOrEqual),
        ">=".value(Token::GreaterOrEqual),
        "=".value(Token::Equal),
        ">".value(Token::Greater),
        "<".value(Token::Less),
        "(".value(Token::Open),
        ",".value(Token::Comma),
        ")".value(Token::Close),
        "+".value(Token::Plus),
        "-".value(Token::Minus),
    ))
    .parse_next(input)
}
