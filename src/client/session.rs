//! What a client has told us about itself, and what it is in the middle of.

use super::{Subscriptions, Tracking};
use crate::protocol::{Mark, Request, Span};

/// Whether the client may run commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// It must authenticate first.
    Required,
    /// It has, or nobody has to.
    Done,
}

/// Which user a connection acts as: a number in the table of users. No reference, since the user may be changed while the
/// connection stays, or be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(pub u32);

impl UserId {
    /// The user that every connection begins as.
    pub const DEFAULT: UserId = UserId(0);
    /// Nobody of the table: our master's connection, and what the server does itself, which need no rights.
    pub const SUPERUSER: UserId = UserId(u32::MAX);
}

/// CLIENT REPLY.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplyMode {
    #[default]
    On,
    Off,
    /// The command in hand is the one that asked for SKIP: the next is skipped.
    SkipNext,
    Skip,
}

/// The command that a request names: its row in the table of commands. Subcommands have rows of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowId(pub u16);

/// Bytes that a queue keeps for the next transaction.
const KEPT: usize = 16 * 1024;

/// The commands queued between MULTI and EXEC: their requests in multibulk form, one behind the other.
#[derive(Debug, Default)]
pub struct Queue {
    bytes: Vec<u8>,
    spans: Vec<Span>,
    /// What each request names, and where it ends in both.
    ends: Vec<(RowId, usize, usize)>,
}

impl Queue {
    pub fn push(&mut self, row: RowId, request: Request) {
        request.append_to(&mut self.bytes, &mut self.spans);
        self.ends.push((row, self.bytes.len(), self.spans.len()));
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The requests from the given one on, oldest first.
    pub fn from(&self, index: usize) -> impl Iterator<Item = (RowId, Request<'_>)> {
        (index..self.len()).map(|index| {
            let (byte, span) = match index.checked_sub(1) {
                Some(before) => (self.ends[before].1, self.ends[before].2),
                None => (0, 0),
            };
            let (row, byte_end, span_end) = self.ends[index];
            (row, Request::whole(&self.bytes[byte..byte_end], &self.spans[span..span_end]))
        })
    }

    /// Forgets them all, and keeps the room that they had, if it is little.
    fn clear(&mut self) {
        if self.bytes.capacity() > KEPT || self.spans.capacity() * size_of::<Span>() > KEPT {
            *self = Queue::default();
        }
        self.bytes.clear();
        self.spans.clear();
        self.ends.clear();
    }

    /// Heap memory, in bytes.
    pub fn memory(&self) -> usize {
        self.bytes.capacity()
            + self.spans.capacity() * size_of::<Span>()
            + self.ends.capacity() * size_of::<(RowId, usize, usize)>()
    }

    /// Bytes of all arguments in them.
    pub fn arguments_len(&self) -> usize {
        self.spans.iter().map(|span| span.len).sum()
    }
}

/// What happened since MULTI.
#[derive(Debug, Default)]
pub struct Transaction {
    pub queued: Queue,
    /// A command could not be queued: EXEC will refuse.
    pub failed: bool,
    /// Flags of the queued commands, joined.
    pub flags: u64,
    /// Flags that one of them at least does not have.
    pub lacking: u64,
}

impl Transaction {
    /// Queues a command with these flags.
    pub fn push(&mut self, row: RowId, flags: u64, request: Request) {
        self.flags |= flags;
        self.lacking |= !flags;
        self.queued.push(row, request);
    }

    /// Makes it what it was behind MULTI.
    pub fn reset(&mut self) {
        (self.failed, self.flags, self.lacking) = (false, 0, 0);
        self.queued.clear();
    }
}

/// See the head of this file.
#[derive(Debug)]
pub struct Session {
    /// Unique for the life of the server, never reused.
    pub id: u64,
    /// Selected database.
    pub db: usize,
    /// Protocol version: 2 or 3.
    pub resp: u8,
    pub auth: Auth,
    pub user: UserId,
    /// The command in hand may not read keys that only the data name (SORT BY and GET): its user has no right to all.
    pub reads_named_keys_only: bool,
    pub reply_mode: ReplyMode,
    /// Set between MULTI and EXEC.
    pub transaction: Option<Box<Transaction>>,
    /// A key it watches has changed.
    pub watch_dirty: bool,
    /// Channels and patterns it listens to, if any.
    pub subscriptions: Option<Box<Subscriptions>>,
    /// What it has asked for by CLIENT TRACKING, if it tracks keys.
    pub tracking: Option<Box<Tracking>>,
    /// CLIENT NO-EVICT, CLIENT NO-TOUCH.
    pub no_evict: bool,
    pub no_touch: bool,
    /// The client is our master: its stream is obeyed.
    pub is_master: bool,
    /// The command in hand runs inside EXEC.
    pub in_exec: bool,
    /// Inside EXEC, a script or the master's stream nothing may block.
    pub deny_blocking: bool,
    /// A script calls the command in hand.
    pub in_script: bool,
    rare: Option<Box<Rare>>,
}

/// What most clients never have.
#[derive(Debug, Default)]
pub struct Rare {
    pub name: Vec<u8>,
    pub lib_name: Vec<u8>,
    pub lib_ver: Vec<u8>,
    /// CLIENT CAPA REDIRECT: it goes to the master when a replica tells it so, unless it said READONLY.
    pub redirects: bool,
    pub reads_replicas: bool,
    /// CLIENT IMPORT-SOURCE: it imports data, to which expired keys are there as long as `import-mode` lasts.
    pub imports: bool,
    /// Keys it watches: database, key, and whether the key had expired already when it was watched.
    pub watched: Vec<(usize, Vec<u8>, bool)>,
    /// Bytes of these keys.
    pub watched_bytes: usize,
    /// Since when (unix ms) its output has been over the soft limit.
    pub over_soft_limit_ms: Option<i64>,
    /// Where the replies of an EXEC end, for which CLIENT REPLY has been seen to already, command by command.
    exec_end: Option<Mark>,
}

impl Rare {
    fn memory(&self) -> usize {
        let texts = [&self.name, &self.lib_name, &self.lib_ver].map(Vec::capacity);
        size_of::<Rare>()
            + texts.iter().sum::<usize>()
            + self.watched.capacity() * size_of::<(usize, Vec<u8>, bool)>()
            + self.watched_bytes
    }
}

static NOTHING_RARE: Rare = Rare {
    name: Vec::new(),
    lib_name: Vec::new(),
    lib_ver: Vec::new(),
    redirects: false,
    reads_replicas: false,
    imports: false,
    watched: Vec::new(),
    watched_bytes: 0,
    over_soft_limit_ms: None,
    exec_end: None,
};

impl Session {
    pub fn new(id: u64, auth: Auth) -> Self {
        Session {
            id,
            db: 0,
            resp: 2,
            auth,
            user: UserId::DEFAULT,
            reads_named_keys_only: false,
            reply_mode: ReplyMode::On,
            transaction: None,
            watch_dirty: false,
            subscriptions: None,
            tracking: None,
            no_evict: false,
            no_touch: false,
            is_master: false,
            in_exec: false,
            deny_blocking: false,
            in_script: false,
            rare: None,
        }
    }

    /// What most clients never have, as this one has it.
    pub fn rare(&self) -> &Rare {
        self.rare.as_deref().unwrap_or(&NOTHING_RARE)
    }

    /// The same, to change it.
    pub fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// The name that CLIENT SETNAME gave.
    pub fn name(&self) -> &[u8] {
        &self.rare().name
    }

    /// Takes the keys that it watches: it watches them no longer.
    pub fn take_watched(&mut self) -> Vec<(usize, Vec<u8>, bool)> {
        let Some(rare) = &mut self.rare else { return Vec::new() };
        rare.watched_bytes = 0;
        std::mem::take(&mut rare.watched)
    }

    /// The replies of an EXEC end there, and those that are not to be seen have been taken away.
    pub fn set_exec_end(&mut self, end: Mark) {
        self.rare_mut().exec_end = Some(end);
    }

    /// Where the replies of the EXEC in hand end, if that was noted.
    pub fn take_exec_end(&mut self) -> Option<Mark> {
        self.rare.as_mut()?.exec_end.take()
    }

    /// Notes since when its output has been over the soft limit.
    pub fn set_over_soft_limit(&mut self, since_ms: Option<i64>) {
        if since_ms.is_some() || self.rare.is_some() {
            self.rare_mut().over_soft_limit_ms = since_ms;
        }
    }

    /// Heap memory of what few clients have, in bytes. What others share, the names of channels, is not counted.
    pub fn memory(&self) -> usize {
        let rare = self.rare.as_deref().map_or(0, Rare::memory);
        let transaction = self
            .transaction
            .as_deref()
            .map_or(0, |transaction| size_of::<Transaction>() + transaction.queued.memory());
        rare + transaction
            + self.subscriptions.as_deref().map_or(0, Subscriptions::memory)
            + self.tracking.as_deref().map_or(0, Tracking::memory)
    }
}

/// A name of a client's own choice as lists and the log show it: up to its first zero byte, behind which a name may hold
/// anything, as in real servers.
pub fn shown(name: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(name.split(|&byte| byte == 0).next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Batch;

    #[test]
    fn requests_leave_the_queue_as_they_came() {
        let bytes =
            b"*1\r\n$4\r\nPING\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";
        let (mut batch, mut queue) = (Batch::default(), Queue::default());
        batch.read(bytes, 0);
        (0..batch.len()).for_each(|index| queue.push(RowId(index as u16), batch.request(bytes, index)));
        assert_eq!((queue.len(), queue.arguments_len()), (3, 12));
        for (index, (row, request)) in queue.from(0).enumerate() {
            assert_eq!(row, RowId(index as u16));
            let whole = batch.request(bytes, index);
            assert_eq!(request.bytes, whole.bytes);
            let arguments = |request: Request| {
                request.spans.iter().map(|&span| request.argument(span).to_vec()).collect::<Vec<_>>()
            };
            assert_eq!(arguments(request), arguments(whole));
        }
    }
}
