//! The fast path: data commands of a client in whose way nothing stands.
//!
//! Most requests come from a plain client of a server in its usual state. Whether that is so is found out once for a batch
//! of requests ([`Server::admission`]); then each data command of the batch is run without asking again (but for the limit of
//! memory, and the rights of a restricted user), by the same runner as all others. Only a command that works on the server can change the answer, and none is run here: such a one,
//! and whatever else is out of the common, takes the long way of `dispatch`, and the question is asked anew behind it.
//! Between MULTI and EXEC the same answer says that commands can be queued; and EXEC asks it for what it runs.

use super::admission::{Admission, Decision};
use super::call::Run;
use super::dispatch::enqueue;
use crate::client::{ClientId, RowId};
use crate::exec::{Args, CmdResult, Command, Ctx, Handler, flags};
use crate::server::Server;

/// Which way the next data command of a client takes.
pub(in crate::server) enum Path {
    /// That is yet to be found out.
    Unknown,
    Fast(FastPath),
    /// As `Fast`, where memory is limited, or what the client's user may do: that is looked at before each command.
    Limited(FastPath),
    Long,
}

impl Path {
    /// A request took the long way, or something else has happened: how the client and the server are now has to be
    /// found out again, if it mattered.
    pub(in crate::server) fn ends(&mut self) {
        if self.is_fast() {
            *self = Path::Unknown;
        }
    }

    /// Whether nothing was in the way of the command before.
    #[inline]
    pub(in crate::server) fn is_fast(&self) -> bool {
        matches!(self, Path::Fast(_) | Path::Limited(_))
    }
}

/// What is the same for all commands of a batch.
pub(in crate::server) struct FastPath {
    admission: Admission,
    run: Run,
}

/// The handler of a data command.
type DataHandler = fn(&mut Ctx) -> CmdResult;

impl Server {
    /// Whether the next commands of a client can take the fast path, as things stand.
    fn fast_path(&mut self, id: ClientId) -> Option<FastPath> {
        // Each request is shown to monitors; and of each of a client that tracks keys it is remembered what it read.
        if self.monitors.count() > 0 {
            return None;
        }
        let client = self.clients.get(id).filter(|client| client.session.tracking.is_none())?;
        let mut admission = self.admission(client)?;
        admission.refused |= flags::BLOCKING;
        if self.tracking.is_used() {
            self.limit_tracking_table();
        }
        Some(FastPath { admission, run: self.begin_run(id)? })
    }

    /// Runs a request by the fast path, if it may take it: false if it was not run. While the path is fast, the client goes
    /// on.
    #[inline]
    pub(in crate::server) fn run_fast(
        &mut self,
        id: ClientId,
        row: RowId,
        args: Args,
        path: &mut Path,
    ) -> bool {
        let Some((handler, fast)) = self.take_path::<true>(id, row, args, path) else { return false };
        let wanted = if fast.admission.queues { Decision::Queue } else { Decision::Call };
        debug_assert_eq!(self.admit(id, row, args), wanted);
        if fast.admission.queues {
            self.queue_fast(id, row, args, path);
        } else if !self.run_data::<true>(id, row, handler, args, &mut fast.run) {
            self.leave_path(id, path);
        }
        true
    }

    /// As `run_fast`, for a command of the transaction that EXEC is running: it was counted when it was queued.
    pub(in crate::server) fn run_queued_fast(
        &mut self,
        id: ClientId,
        row: RowId,
        args: Args,
        path: &mut Path,
    ) -> bool {
        let Some((handler, fast)) = self.take_path::<false>(id, row, args, path) else { return false };
        if !self.run_data::<false>(id, row, handler, args, &mut fast.run) {
            self.leave_path(id, path);
        }
        true
    }

    /// The handler of a request that may take the fast path. Room is made only before a command that stands by itself:
    /// nothing happens to keys between those of a transaction.
    #[inline(always)]
    fn take_path<'p, const MAKES_ROOM: bool>(
        &mut self,
        id: ClientId,
        row: RowId,
        args: Args,
        path: &'p mut Path,
    ) -> Option<(DataHandler, &'p mut FastPath)> {
        let command = self.table.command(row);
        let Handler::Data(handler) = command.handler else {
            // What it does to the server may change the answer.
            *path = Path::Unknown;
            return None;
        };
        if matches!(path, Path::Unknown) {
            *path = match self.fast_path(id) {
                Some(fast) if fast.admission.limited || fast.admission.restricted => Path::Limited(fast),
                Some(fast) => Path::Fast(fast),
                None => Path::Long,
            };
        }
        let fast = match path {
            Path::Fast(fast) => fast,
            Path::Limited(fast)
                if (!MAKES_ROOM
                    || !fast.admission.limited
                    || self.makes_room(command, fast.admission.queues))
                    && (!fast.admission.restricted || self.suffice_rights(id, row, args)) =>
            {
                fast
            }
            _ => return None,
        };
        let fits = command.flags & fast.admission.refused == 0 && command.arity_fits(args.len());
        fits.then_some((handler, fast))
    }

    /// Whether there is room for a command, once keys have been evicted that may go. A client that may have to go takes
    /// the long way.
    fn makes_room(&mut self, command: &Command<Server>, queues: bool) -> bool {
        if self.client_memory.is_exceeded() {
            return false;
        }
        self.keep_within_maxmemory();
        !(self.eviction.out_of_memory && (queues || command.has(flags::DENYOOM)))
    }

    /// Whether the user of a client may run a command. One that may read keys which only the data name takes the long way.
    fn suffice_rights(&self, id: ClientId, row: RowId, args: Args) -> bool {
        let client = self.clients.get(id).filter(|_| !self.table.command(row).reads_unnamed_keys());
        client.is_some_and(|client| self.check_rights(row, client, args).is_ok())
    }

    /// Queues a request between MULTI and EXEC.
    fn queue_fast(&mut self, id: ClientId, row: RowId, args: Args, path: &mut Path) {
        let command = self.table.command(row);
        let Some(client) = self.clients.get_mut(id) else { return };
        self.stats.commands += 1;
        client.last_command = &command.full_name;
        self.outgoing.lend(client);
        enqueue(client, row, command, args);
        self.outgoing.queue_flush(client, id);
        if client.output.overflow() > 0 {
            self.leave_path(id, path);
        }
    }

    /// Something out of the common has come of a command: its client may be owed too much now.
    #[cold]
    fn leave_path(&mut self, id: ClientId, path: &mut Path) {
        *path = Path::Unknown;
        if self.clients.get(id).is_some_and(|client| client.output.overflow() > 0) {
            self.check_output_limits(id, true);
        }
    }
}
