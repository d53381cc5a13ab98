//! What a blocked client waits for, and how such a wait ends.

/// What a blocked client waits for.
#[derive(Debug, PartialEq)]
pub struct Block {
    pub on: BlockOn,
    /// Unix time in milliseconds at which to give up.
    pub deadline_ms: Option<i64>,
    /// Arguments that would mean something else when the request runs again, by their index, and what they mean now.
    pub resolved: Vec<(usize, Vec<u8>)>,
}

#[derive(Debug, PartialEq)]
pub enum BlockOn {
    /// Any of these keys of the client's database becoming usable: the request then runs again.
    Keys(Vec<Vec<u8>>),
    /// So many replicas having acknowledged the stream up to an offset.
    Replicas { count: i64, offset: u64 },
    /// So many append-only files of replicas holding the stream up to an offset, and ours (`local` is 1).
    Files { local: i64, count: i64, offset: u64 },
    /// The end of CLIENT PAUSE: the request then runs (again).
    Unpause,
    /// The end of the shutdown that this client asked for.
    Shutdown,
}

/// How the wait of a blocked client ends if nothing came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnblockReason {
    TimedOut,
    /// CLIENT UNBLOCK … ERROR, a change of role, a changed type of key.
    Unblocked,
    RoleChanged,
}
