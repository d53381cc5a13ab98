//! The logs of commands that took long (`slowlog-log-slower-than`), that were long, or whose replies were: the recent ones
//! of each.

use std::collections::VecDeque;

/// Longer requests and longer arguments are cut: the log is to show what was run, not to keep the data.
const MAX_WORDS: usize = 32;
const MAX_WORD: usize = 128;

/// One command in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedCommand {
    /// Unique for the life of the server, whatever was forgotten since.
    pub id: u64,
    pub unix_secs: i64,
    /// Microseconds, or bytes.
    pub value: u64,
    pub arguments: Vec<Vec<u8>>,
    /// Address and name of the client.
    pub addr: String,
    pub name: Vec<u8>,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub struct CommandLog {
    /// The newest in front.
    entries: VecDeque<LoggedCommand>,
    next_id: u64,
}

impl CommandLog {
    /// Adds a command. What it is given of the arguments is what is kept of them, cut where they are long.
    pub fn record<'a>(
        &mut self,
        unix_secs: i64,
        value: u64,
        arguments: impl ExactSizeIterator<Item = &'a [u8]>,
        addr: &str,
        name: &[u8],
    ) {
        let count = arguments.len();
        let kept = if count > MAX_WORDS { MAX_WORDS - 1 } else { count };
        let mut arguments: Vec<Vec<u8>> = arguments.take(kept).map(cut).collect();
        if kept < count {
            arguments.push(format!("... ({} more arguments)", count - kept).into_bytes());
        }
        let id = self.next_id;
        self.next_id += 1;
        let (addr, name) = (addr.to_owned(), name.to_owned());
        self.entries.push_front(LoggedCommand { id, unix_secs, value, arguments, addr, name });
    }

    /// Whether it holds more than so many.
    #[inline]
    pub fn is_longer_than(&self, max: u64) -> bool {
        self.entries.len() as u64 > max
    }

    /// Forgets the oldest beyond so many.
    #[inline]
    pub fn trim(&mut self, max: u64) {
        if self.is_longer_than(max) {
            self.entries.truncate(max as usize);
        }
    }

    pub fn reset(&mut self) {
        self.entries.clear();
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The newest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &LoggedCommand> {
        self.entries.iter()
    }
}

/// All logs.
#[derive(Debug, Default)]
pub struct CommandLogs {
    pub slow: CommandLog,
    pub large_requests: CommandLog,
    pub large_replies: CommandLog,
}

fn cut(argument: &[u8]) -> Vec<u8> {
    match argument.len().checked_sub(MAX_WORD) {
        None | Some(0) => argument.to_vec(),
        Some(more) => {
            let mut kept = argument[..MAX_WORD].to_vec();
            kept.extend_from_slice(format!("... ({more} more bytes)").as_bytes());
            kept
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(arguments: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut log = CommandLog::default();
        log.record(1, 2, arguments.iter().copied(), "127.0.0.1:1", b"");
        log.iter().next().unwrap().arguments.clone()
    }

    #[test]
    fn long_requests_are_cut() {
        let argument = |text: &str| text.as_bytes().to_vec();
        assert_eq!(logged(&[b"a", &[b'x'; 128]]), [argument("a"), vec![b'x'; 128]]);
        let long = logged(&[&[b'x'; 129]]);
        assert_eq!(long, [[vec![b'x'; 128], argument("... (1 more bytes)")].concat()]);
        assert_eq!(logged(&[&b"a"[..]; 32]).len(), 32);
        let many = logged(&[&b"a"[..]; 33]);
        assert_eq!((many.len(), &many[31]), (32, &argument("... (2 more arguments)")));
    }

    #[test]
    fn the_oldest_go_first_and_ids_go_on() {
        let mut log = CommandLog::default();
        for us in 0..5 {
            log.record(0, us, [&b"ping"[..]].into_iter(), "", b"");
        }
        log.trim(3);
        let ids: Vec<u64> = log.iter().map(|entry| entry.id).collect();
        assert_eq!(ids, [4, 3, 2]);
        log.reset();
        log.record(0, 0, [&b"ping"[..]].into_iter(), "", b"");
        assert_eq!(log.iter().next().unwrap().id, 5);
    }
}
