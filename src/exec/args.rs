//! The arguments of a command, and the one cursor by which handlers read them.

use crate::protocol::number::parse_int;
use crate::protocol::{CmdError, Request};
use crate::types::NewValue;

/// The arguments of a request; argument 0 is the command's name. Slices of the buffer that the request came in.
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

    /// The request that begins at argument `index`: a command among the arguments of another.
    pub fn skip(self, index: usize) -> Args<'a> {
        Args { request: Request { spans: &self.request.spans[index..], ..self.request } }
    }

    /// Argument `index`, which has to exist (the arity of the row says so).
    #[inline]
    pub fn get(&self, index: usize) -> &'a [u8] {
        self.request.argument(self.request.spans[index])
    }

    /// Argument `index` as a value; one that is big enough is not copied.
    #[inline]
    pub fn value(&self, index: usize) -> NewValue<'a> {
        NewValue::of_word(self.get(index), self.request.big.map(|big| &big.argument))
    }

    /// The argument behind the command's name: most often the key.
    #[inline]
    pub fn key(&self) -> &'a [u8] {
        self.get(1)
    }

    /// The arguments from `index` on.
    pub fn from(self, index: usize) -> impl ExactSizeIterator<Item = &'a [u8]> + DoubleEndedIterator + Clone {
        let spans = self.request.spans.get(index..).unwrap_or_default();
        spans.iter().map(move |&span| self.request.argument(span))
    }

    /// The arguments from `index` on, two by two. An odd one at the end is left out.
    pub fn pairs(self, index: usize) -> impl ExactSizeIterator<Item = (&'a [u8], &'a [u8])> + Clone {
        let spans = self.request.spans.get(index..).unwrap_or_default();
        let argument = move |span| self.request.argument(span);
        spans.chunks_exact(2).map(move |pair| (argument(pair[0]), argument(pair[1])))
    }

    /// All arguments.
    pub fn iter(self) -> impl ExactSizeIterator<Item = &'a [u8]> + DoubleEndedIterator + Clone {
        self.from(0)
    }

    /// Whether argument `index` is `argument`, in any case.
    pub fn is(&self, index: usize, argument: &str) -> bool {
        self.get(index).eq_ignore_ascii_case(argument.as_bytes())
    }

    /// Argument `index` as an integer.
    pub fn int(&self, index: usize) -> Result<i64, CmdError> {
        parse_int(self.get(index)).ok_or(CmdError::NOT_INTEGER)
    }

    /// A cursor that begins at argument `index`.
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
    /// Index of the argument that comes next.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Arguments left.
    pub fn left(&self) -> usize {
        self.args.len() - self.at
    }

    pub fn is_done(&self) -> bool {
        self.left() == 0
    }

    /// The next argument without taking it.
    pub fn peek(&self) -> Option<&'a [u8]> {
        (!self.is_done()).then(|| self.args.get(self.at))
    }

    /// The next argument, or a syntax error if there is none.
    pub fn argument(&mut self) -> Result<&'a [u8], CmdError> {
        self.next().ok_or(CmdError::SYNTAX)
    }

    /// Takes the next argument if it is `argument`, in any case.
    pub fn flag(&mut self, argument: &str) -> bool {
        let found = self.peek().is_some_and(|next| next.eq_ignore_ascii_case(argument.as_bytes()));
        self.at += usize::from(found);
        found
    }

    /// As [`Cursor::flag`], for an option that takes `values` more arguments: a syntax error follows when they lack, so
    /// the option is not taken for one then.
    pub fn option(&mut self, argument: &str, values: usize) -> bool {
        self.left() > values && self.flag(argument)
    }

    /// The next argument as an integer.
    pub fn int(&mut self) -> Result<i64, CmdError> {
        parse_int(self.argument()?).ok_or(CmdError::NOT_INTEGER)
    }

    /// The next argument as an integer within `range`, or else `error`.
    pub fn int_in(&mut self, range: std::ops::RangeInclusive<i64>, error: CmdError) -> Result<i64, CmdError> {
        match parse_int(self.argument()?) {
            Some(n) if range.contains(&n) => Ok(n),
            _ => Err(error),
        }
    }

    /// A syntax error unless every argument was read.
    pub fn done(&self) -> Result<(), CmdError> {
        if self.is_done() { Ok(()) } else { Err(CmdError::SYNTAX) }
    }
}

impl<'a> Iterator for Cursor<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let argument = self.peek()?;
        self.at += 1;
        Some(argument)
    }
}

/// An argument as it stands in the messages of real servers, which print it up to its first zero byte.
pub fn printed(argument: &[u8]) -> &[u8] {
    memchr::memchr(0, argument).map_or(argument, |end| &argument[..end])
}
