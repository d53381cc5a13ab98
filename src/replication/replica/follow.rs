//! The stream of our master is followed: what is applied becomes our own stream, and the master hears how far we are.

use super::link::Link;
use super::lost::log_lost;
use super::retry::{Failure, GOOD_AFTER_MS};
use super::{LAST_OFFSET, Linking, MasterLink};
use crate::client::{ClientId, Outbox};
use crate::config::OnUnknownCommand;
use crate::journal::{Journal, Log};
use crate::net::Conn;
use crate::observe::log;
use crate::persistence::aof::{Aof, Place};
use crate::persistence::load::Origin;
use crate::protocol::encode_command;

/// The stream that is followed.
#[derive(Debug)]
pub struct Following {
    /// The client whose commands are obeyed.
    pub client: ClientId,
    /// Bytes that belong to a transaction which is not whole yet.
    uncommitted: Vec<u8>,
    /// The master has asked how far we are.
    ack_wanted: bool,
    /// Since when (monotonic ms), and whether anything has come of it.
    since_ms: u64,
    flowed: bool,
}

impl MasterLink {
    /// The connection that is to become a client, with what has come of the stream.
    pub fn take_arriving(&mut self) -> Option<Arrival> {
        match std::mem::take(&mut self.state) {
            Link::Arriving { conn, rest, acks } => Some(Arrival { conn, rest, acks }),
            other => {
                self.state = other;
                None
            }
        }
    }

    /// The connection is a client now.
    pub fn online(&mut self, client: ClientId, acks: bool, cx: &mut Linking) {
        self.standing.active_ms = cx.now_ms;
        self.standing.down_since_ms = None;
        (self.standing.was_in_sync, self.standing.shielded) = (true, None);
        self.state = Link::Online(Following {
            client,
            uncommitted: Vec::new(),
            ack_wanted: false,
            since_ms: cx.now_ms,
            flowed: false,
        });
        if acks {
            log::notice!("MASTER <-> REPLICA sync: Finished with success");
            self.send_ack(&mut cx.outbox, cx.journal, cx.aof);
        }
    }

    /// The connection could not become a client.
    pub fn not_welcome(&mut self, why: std::io::Error, cx: &mut Linking) {
        self.abandon(super::LinkError::Watch(why), cx);
    }

    /// Bytes of the master's stream were applied: they are our stream too, once their transaction is whole. `in_unit`: it
    /// is not. `db`: what the stream has selected.
    pub fn applied(
        &mut self,
        bytes: &[u8],
        (in_unit, db): (bool, usize),
        journal: &mut Journal,
        aof: &Aof,
        outbox: Outbox,
    ) {
        let Link::Online(following) = &mut self.state else { return };
        following.flowed = true;
        if in_unit {
            return following.uncommitted.extend_from_slice(bytes);
        }
        self.standing.selected_db = db;
        if !following.uncommitted.is_empty() {
            journal.append_verbatim(&std::mem::take(&mut following.uncommitted));
        }
        journal.append_verbatim(bytes);
        if std::mem::take(&mut following.ack_wanted) {
            let mut outbox = outbox;
            self.send_ack(&mut outbox, journal, aof);
        }
    }

    /// Bytes that were read and are not part of our stream yet.
    pub fn uncommitted(&self) -> usize {
        match &self.state {
            Link::Online(following) => following.uncommitted.len(),
            _ => 0,
        }
    }

    /// The master asks how far we are: it is told once this request is part of our stream.
    pub fn want_ack(&mut self) {
        if let Link::Online(following) = &mut self.state {
            following.ack_wanted = true;
        }
    }

    /// The stream says something that we cannot apply: it is left, unless we shall go on, and our data stay as they are.
    /// `half`: it stands in a transaction of which other parts were applied, so that only a dump brings us in step again.
    pub fn cannot_apply(&mut self, command: &str, half: bool, cx: &mut Linking) {
        let Link::Online(following) = &self.state else { return };
        let offset = cx.journal.offset() + following.uncommitted.len() as u64;
        self.unapplied.count += 1;
        self.unapplied.first.get_or_insert_with(|| (command.to_owned(), offset));
        if cx.config.replica_on_unknown_command == OnUnknownCommand::Ignore {
            return;
        }
        log::warning!(
            "The master's command '{command}' at offset {offset} cannot be applied here: the link is closed, so that the data do not drift apart unseen, and what is here is kept. A newer version may know it; REPLICAOF tries again, and 'replica-on-unknown-command ignore' goes on without such commands."
        );
        let client = following.client;
        self.state = Link::Stopped;
        self.standing.can_resume = !half;
        self.standing.down_since_ms = Some(cx.now_ms);
        cx.outbox.close_later(client);
        log_lost();
    }

    /// Tells the master how far we are, and what of it is on our disk, if we keep an append-only file.
    pub fn send_ack(&mut self, outbox: &mut Outbox, journal: &Journal, aof: &Aof) {
        let Link::Online(following) = &self.state else { return };
        let offset = journal.offset().to_string();
        let synced = aof.synced().map(|synced| synced.to_string());
        let arguments = [&b"REPLCONF"[..], b"ACK", offset.as_bytes()];
        let file = synced.as_ref().map(|synced| [&b"FACK"[..], synced.as_bytes()]);
        let mut ack = Vec::new();
        match file {
            Some(file) => encode_command(&mut ack, [&arguments[..], &file].concat().into_iter()),
            None => encode_command(&mut ack, arguments.into_iter()),
        }
        outbox.send(following.client, &ack);
    }

    /// A client that was our master is closed. If we still followed it, we come back: at once, unless it throws us out
    /// each time.
    pub fn client_is_gone(&mut self, client: ClientId, now_ms: u64) {
        let Link::Online(following) = &self.state else { return };
        if following.client != client {
            return;
        }
        log_lost();
        let lasted = now_ms.saturating_sub(following.since_ms) >= GOOD_AFTER_MS;
        let failure = match (following.flowed, lasted) {
            (true, true) => {
                self.standing.retry.reset();
                Failure::Mild
            }
            (true, false) => Failure::Mild,
            (false, _) => Failure::Answered,
        };
        let delay_ms = self.standing.retry.delay_ms(failure);
        self.standing.can_resume = true;
        self.standing.down_since_ms = Some(now_ms);
        self.state = Link::Waiting { retry_at_ms: now_ms + delay_ms, lost: true };
    }

    /// A dump that was loaded at the start says where its stream stood. A replica may be let go on from there; a master
    /// goes on under a new name, and replicas that were just as far may stay. True for a master whose stream goes on.
    pub fn adopt_loaded(&mut self, origin: &Origin, databases: usize, cx: &mut Linking) -> bool {
        let Some((id, offset, db)) = origin.replication() else { return false };
        let Some(offset) = u64::try_from(offset).ok().filter(|&offset| offset <= LAST_OFFSET) else {
            return false;
        };
        cx.history.adopt(id);
        if self.standing.master.is_some() {
            self.standing.selected_db = usize::try_from(db).ok().filter(|&db| db < databases).unwrap_or(0);
            self.standing.can_resume = true;
            cx.journal.restart_at(offset);
            return false;
        }
        cx.history.shift(offset, cx.secrets);
        cx.journal.restart_at(offset);
        cx.journal.activate();
        true
    }

    /// Append-only files that were loaded at the start say where in which stream they end, and hold its last part. They
    /// are a prefix of that stream, whatever is missing behind it: so a replica may be let go on from there, and a master
    /// goes on under a new name. True for a master.
    pub fn adopt_place(&mut self, place: &Place, recent: Log, db: usize, cx: &mut Linking) -> bool {
        if place.offset > LAST_OFFSET {
            return false;
        }
        cx.history.adopt_with(&place.id, place.earlier.clone());
        match recent.end() == place.offset {
            true => cx.journal.restore(recent),
            false => cx.journal.restart_at(place.offset),
        }
        cx.journal.activate();
        if self.standing.master.is_some() {
            self.standing.selected_db = db;
            self.standing.can_resume = true;
            return false;
        }
        cx.history.shift(place.offset, cx.secrets);
        true
    }
}

/// A connection on which the stream comes.
pub struct Arrival {
    pub conn: Conn,
    pub rest: Vec<u8>,
    pub acks: bool,
}
