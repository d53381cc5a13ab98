//! The link to our master is lost, or given up: the log hears why, and the next attempt has its time.

use super::link::{Link, LinkError};
use super::retry::Failure;
use super::{Linking, MasterLink};
use crate::net::Conn;
use crate::observe::log;
use crate::replication::Decision;
use crate::replication::sync_log::With;

impl MasterLink {
    /// The link is lost: the next attempt is made in a while.
    pub(super) fn lost(&mut self, conn: Option<Conn>, why: &LinkError, cx: &mut Linking) {
        if why.failure() != Failure::Unreachable || self.standing.retry.is_reported() {
            why.report();
        }
        if let Some(mut conn) = conn {
            conn.deregister(cx.reactor);
        }
        cx.syncs.failed(With::Master, &why.to_string(), cx.now_ms as i64);
        let delay_ms = self.standing.retry.delay_ms(why.failure());
        self.state = Link::Waiting { retry_at_ms: cx.now_ms + delay_ms, lost: false };
    }

    /// Gives an attempt up that has not led to the stream.
    pub(super) fn abandon(&mut self, why: LinkError, cx: &mut Linking) {
        if matches!(&self.state, Link::Transfer(transfer) if transfer.is_being_loaded()) {
            cx.decisions.push(Decision::GiveUpLoading);
        }
        std::mem::take(&mut self.state).close(cx.reactor);
        self.lost(None, &why, cx);
    }
}

/// The log is told that a master which was followed is not any more.
pub(super) fn log_lost() {
    log::notice!("Connection with master lost.");
    log::notice!("Caching the disconnected master state.");
}
