//! The arguments of a command, and the one cursor by which handlers read them.

use crate::protocol::number::parse_int;
use crate::protocol::{CmdError, Request};
use crate::types::NewValue;

/// The words of a request; word 0 is the command's name. Slices of the buffer that the request came in.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    request: Request<'a>,
}

impl<'a> Args<'a> {
    pub fn new(request: Request<'a>) -> Self {
        Args { request }
    }

    pub fn len(&self) -> usize {
        self.request.spans.len()
    }

    pub fn is_empty(&self) -> bool {
        self.request.spans.is_empty()
    }

    /// The request that begins at word `index`: a command among the arguments of another.
    pub fn skip(self, index: usize) -> Args<'a> {
        Args { request: Request { spans: &self.request.spans[index..], ..self.request } }
    }

    /// Word `index`, which has to exist (the arity of the row says so).
    #[inline]
    pub fn get(&self, index: usize) -> &'a [u8] {
        self.request.word(self.request.spans[index])
    }

    /// Word `index` as a value; one that is big enough is not copied.
    #[inline]
    pub fn value(&self, index: usize) -> NewValue<'a> {
        NewValue::of_word(self.get(index), self.request.big.map(|big| &big.word))
    }

    /// The word behind the command's name: most often the key.
    #[inline]
    pub fn key(&self) -> &'a [u8] {
        self.get(1)
    }

    /// The words from `index` on.
    pub fn from(self, index: usize) -> impl ExactSizeIterator<Item = &'a [u8]> + DoubleEndedIterator + Clone {
        let spans = self.request.spans.get(index..).unwrap_or_default();
        spans.iter().map(move |&span| self.request.word(span))
    }

    /// The words from `index` on, two by two. An odd one at the end is left out.
    pub fn pairs(self, index: usize) -> impl ExactSizeIterator<Item = (&'a [u8], &'a [u8])> + Clone {
        let spans = self.request.spans.get(index..).unwrap_or_default();
        let word = move |span| self.request.word(span);
        spans.chunks_exact(2).map(move |pair| (word(pair[0]), word(pair[1])))
    }

    /// All words.
    pub fn iter(self) -> impl ExactSizeIterator<Item = &'a [u8]> + DoubleEndedIterator + Clone {
        self.from(0)
    }

    /// Whether word `index` is `word`, in any case.
    pub fn is(&self, index: usize, word: &str) -> bool {
        self.get(index).eq_ignore_ascii_case(word.as_bytes())
    }

    /// Word `index` as an integer.
    pub fn int(&self, index: usize) -> Result<i64, CmdError> {
        parse_int(self.get(index)).ok_or(CmdError::NOT_INTEGER)
    }

    /// A cursor that begins at word `index`.
    pub fn cursor(self, index: usize) -> Cursor<'a> {
        Cursor { args: self, at: index }
    }

    /// The request as it came, in multibulk form: its pieces, one behind the other.
    pub fn pieces(&self) -> [&'a [u8]; 3] {
        self.request.pieces()
    }

    /// Its length in bytes.
    pub fn size(&self) -> usize {
        self.pieces().iter().map(|piece| piece.len()).sum()
    }

    /// The request.
    pub fn request(&self) -> Request<'a> {
        self.request
    }
}

/// Reads arguments in order, with the errors that Redis gives for each kind.
#[derive(Clone)]
pub struct Cursor<'a> {
    args: Args<'a>,
    at: usize,
}

impl<'a> Cursor<'a> {
    /// Index of the word that comes next.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Words left.
    pub fn left(&self) -> usize {
        self.args.len() - self.at
    }

    pub fn is_done(&self) -> bool {
        self.left() == 0
    }

    /// The next word without taking it.
    pub fn peek(&self) -> Option<&'a [u8]> {
        (!self.is_done()).then(|| self.args.get(self.at))
    }

    /// The next word, or a syntax error if there is none.
    pub fn word(&mut self) -> Result<&'a [u8], CmdError> {
        self.next().ok_or(CmdError::SYNTAX)
    }

    /// Takes the next word if it is `word`, in any case.
    pub fn flag(&mut self, word: &str) -> bool {
        let found = self.peek().is_some_and(|next| next.eq_ignore_ascii_case(word.as_bytes()));
        self.at += usize::from(found);
        found
    }

    /// As [`Cursor::flag`], for an option that takes `values` more words: a syntax error follows when they lack, so
    /// the option is not taken for one then.
    pub fn option(&mut self, word: &str, values: usize) -> bool {
        self.left() > values && self.flag(word)
    }

    /// The next word as an integer.
    pub fn int(&mut self) -> Result<i64, CmdError> {
        parse_int(self.word()?).ok_or(CmdError::NOT_INTEGER)
    }

    /// The next word as an integer within `range`, or else `error`.
    pub fn int_in(&mut self, range: std::ops::RangeInclusive<i64>, error: CmdError) -> Result<i64, CmdError> {
        match parse_int(self.word()?) {
            Some(n) if range.contains(&n) => Ok(n),
            _ => Err(error),
        }
    }

    /// A syntax error unless every word was read.
    pub fn done(&self) -> Result<(), CmdError> {
        if self.is_done() { Ok(()) } else { Err(CmdError::SYNTAX) }
    }
}

impl<'a> Iterator for Cursor<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let word = self.peek()?;
        self.at += 1;
        Some(word)
    }
}

/// A word as it stands in the messages of real servers, which print it up to its first zero byte.
pub fn printed(word: &[u8]) -> &[u8] {
    memchr::memchr(0, word).map_or(word, |end| &word[..end])
}
