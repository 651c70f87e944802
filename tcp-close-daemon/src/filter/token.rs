//! The words and signs of a filter, and where they stand.

use std::{borrow::Cow, ops::Range};

/// A word or a sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    /// The word, without quotes and what is said with a backslash in them.
    pub(super) text: Cow<'a, str>,
    /// Its place in the text, in bytes.
    pub(super) place: Range<usize>,
}

/// What it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Word,
    /// A word in quotes, which is never a word of the language.
    Quoted,
    Open,
    Close,
    And,
    Or,
    Not,
    Equal,
    Unequal,
    Less,
    Greater,
    AtMost,
    AtLeast,
}

/// Signs of the language, longer ones before those that they begin with.
const SIGNS: [(&str, Kind); 14] = [
    ("&&", Kind::And),
    ("||", Kind::Or),
    ("==", Kind::Equal),
    ("!=", Kind::Unequal),
    ("<=", Kind::AtMost),
    (">=", Kind::AtLeast),
    ("(", Kind::Open),
    (")", Kind::Close),
    ("&", Kind::And),
    ("|", Kind::Or),
    ("!", Kind::Not),
    ("=", Kind::Equal),
    ("<", Kind::Less),
    (">", Kind::Greater),
];

/// Words that stand for signs.
const WORDS: [(&str, Kind); 12] = [
    ("and", Kind::And),
    ("or", Kind::Or),
    ("not", Kind::Not),
    ("eq", Kind::Equal),
    ("ne", Kind::Unequal),
    ("neq", Kind::Unequal),
    ("lt", Kind::Less),
    ("gt", Kind::Greater),
    ("le", Kind::AtMost),
    ("leq", Kind::AtMost),
    ("ge", Kind::AtLeast),
    ("geq", Kind::AtLeast),
];

/// A quote that is not closed begins here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unclosed(pub(super) Range<usize>);

/// The words and signs of a text, in order.
pub(super) fn tokens(text: &str) -> Result<Vec<Token<'_>>, Unclosed> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let spaces = rest.len() - rest.trim_start().len();
        if spaces > 0 {
            at += spaces;
            continue;
        }
        let token = next(rest, at).ok_or(Unclosed(at..text.len()))?;
        at = token.place.end;
        tokens.push(token);
    }
    Ok(tokens)
}

/// The one that `rest` begins with; `None` for a quote without an end.
fn next(rest: &str, at: usize) -> Option<Token<'_>> {
    if let Some(quote @ ('"' | '\'')) = rest.chars().next() {
        return quoted(rest, quote, at);
    }
    let (kind, text) = if let Some(&(sign, kind)) = SIGNS.iter().find(|(sign, _)| rest.starts_with(sign)) {
        (kind, sign)
    } else {
        let is_end = |c: char| c.is_whitespace() || "()&|!=<>\"'".contains(c);
        let word = rest.split(is_end).next()?;
        let meaning = WORDS.iter().find(|(name, _)| word.eq_ignore_ascii_case(name));
        (meaning.map_or(Kind::Word, |&(_, kind)| kind), word)
    };
    Some(Token { kind, text: Cow::Borrowed(text), place: at..at + text.len() })
}

/// A word in quotes. Behind a backslash, a quote and a backslash are themselves.
fn quoted(rest: &str, quote: char, at: usize) -> Option<Token<'_>> {
    let mut text = String::new();
    let mut characters = rest.char_indices().skip(1);
    while let Some((place, character)) = characters.next() {
        match character {
            _ if character == quote => {
                let place = at..at + place + quote.len_utf8();
                return Some(Token { kind: Kind::Quoted, text: Cow::Owned(text), place });
            }
            '\\' => text.push(characters.next()?.1),
            _ => text.push(character),
        }
    }
    None
}
