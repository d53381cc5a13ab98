//! Which arguments of the request in hand are secrets: neither MONITOR nor the slow log may show them. A handler says so
//! before it returns, whatever becomes of its command; it is forgotten when the next request is run.

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Redacted {
    args: Vec<usize>,
}

impl Redacted {
    /// A request is about to be run: nothing in it is a secret yet.
    #[inline]
    pub fn begin_call(&mut self) {
        self.args.clear();
    }

    /// Argument `index` of the request in hand is a secret.
    pub fn redact(&mut self, index: usize) {
        self.args.push(index);
    }

    /// The arguments as they may be shown.
    pub fn shown<'a>(
        &self,
        args: impl ExactSizeIterator<Item = &'a [u8]>,
    ) -> impl ExactSizeIterator<Item = &'a [u8]> {
        args.enumerate().map(|(index, arg)| match self.args.contains(&index) {
            true => &b"(redacted)"[..],
            false => arg,
        })
    }
}
