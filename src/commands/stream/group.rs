//! XGROUP: consumer groups, their consumers and their places; and how what happens in a group is propagated to replicas.

use crate::commands::help;
use crate::commands::stream::entries::{parse_id, parse_id_or_end};
use crate::exec::{
    Arg, ArgKind, CmdError, CmdResult, Command, Ctx, Done, Group as Family, KeySpec, acl, arg, container,
    data, flags::*, key, key_flags as kf, one_of, printed, token,
};
use crate::keyspace::{Changes, Class};
use crate::server::Server;
use crate::structures::stream::{ConsumerId, Group, ID_TEXT_MAX, Stream, StreamId};
use crate::types::{NewValue, Object};

const INSERTED: &[KeySpec] = &[KeySpec::range(kf::RW | kf::INSERT, 2, 2, 1)];
const DELETED: &[KeySpec] = &[KeySpec::range(kf::RW | kf::DELETE, 2, 2, 1)];

const KEY_AND_GROUP: &[Arg] = &[key("key", 0), arg("group", ArgKind::String)];
const KEY_GROUP_AND_CONSUMER: &[Arg] =
    &[key("key", 0), arg("group", ArgKind::String), arg("consumer", ArgKind::String)];
const ID_SELECTOR: Arg = one_of("id-selector", &[arg("id", ArgKind::String), token("new-id", "$")]);

pub(in crate::commands) const COMMANDS: &[Command<Server>] = &[container(
    "xgroup",
    &[
        data("create", create, -5)
            .of("xgroup|create")
            .flags(WRITE | DENYOOM)
            .acl(acl::STREAM)
            .keys(INSERTED)
            .doc(Family::Stream, "5.0.0", "O(1)", "Makes a consumer group.")
            .history(&[("7.0.0", "Takes `ENTRIESREAD`.")])
            .args(&[
                key("key", 0),
                arg("group", ArgKind::String),
                ID_SELECTOR,
                token("mkstream", "MKSTREAM").optional(),
                arg("entries-read", ArgKind::Integer).token("ENTRIESREAD").optional(),
            ]),
        data("createconsumer", create_consumer, 5)
            .of("xgroup|createconsumer")
            .flags(WRITE | DENYOOM)
            .acl(acl::STREAM)
            .keys(INSERTED)
            .doc(Family::Stream, "6.2.0", "O(1)", "Makes a consumer in a group.")
            .args(KEY_GROUP_AND_CONSUMER),
        data("delconsumer", delete_consumer, 5)
            .of("xgroup|delconsumer")
            .flags(WRITE)
            .acl(acl::STREAM)
            .keys(DELETED)
            .doc(Family::Stream, "5.0.0", "O(1)", "Deletes a consumer with all that is pending for it.")
            .args(KEY_GROUP_AND_CONSUMER),
        data("destroy", destroy, 4)
            .of("xgroup|destroy")
            .flags(WRITE)
            .acl(acl::STREAM)
            .keys(DELETED)
            .doc(Family::Stream, "5.0.0", "O(N) for N entries that are pending", "Deletes a consumer group.")
            .args(KEY_AND_GROUP),
        data("help", xgroup_help, 2).of("xgroup|help").flags(LOADING | STALE).acl(acl::STREAM).doc(
            Family::Stream,
            "5.0.0",
            "O(1)",
            "Describes the subcommands.",
        ),
        data("setid", set_id, -5)
            .of("xgroup|setid")
            .flags(WRITE)
            .acl(acl::STREAM)
            .keys(&[KeySpec::range(kf::RW | kf::UPDATE, 2, 2, 1)])
            .doc(Family::Stream, "5.0.0", "O(1)", "Sets up to which entry a group has read.")
            .history(&[("7.0.0", "Takes `ENTRIESREAD`.")])
            .args(&[
                key("key", 0),
                arg("group", ArgKind::String),
                ID_SELECTOR,
                arg("entriesread", ArgKind::Integer).display("entries-read").token("ENTRIESREAD").optional(),
            ]),
    ],
)
.doc(Family::Stream, "5.0.0", "Depends on subcommand.", "A container for commands on consumer groups.")];

// ---- what other commands on groups need

/// A group by its names, with what it takes to tell replicas of it.
#[derive(Clone, Copy)]
pub(in crate::commands) struct GroupKey<'a> {
    pub db: usize,
    pub key: &'a [u8],
    pub group: &'a [u8],
}

impl GroupKey<'_> {
    /// Makes a consumer that is known to be absent.
    pub(in crate::commands) fn create_consumer(
        &self,
        group: &mut Group,
        name: &[u8],
        now_ms: i64,
        changes: &mut Changes,
    ) -> ConsumerId {
        let consumer = group.create_consumer(name, now_ms).expect("it was looked for before");
        changes.dirty += 1;
        changes.event(Class::STREAM, "xgroup-createconsumer", self.db, self.key);
        consumer
    }

    /// Tells replicas who has a pending entry now, and since when; so, whatever they knew of it, they know the same.
    /// `argument` is its id as it is to be spelled.
    pub(in crate::commands) fn propagate_claim(
        &self,
        group: &Group,
        id: StreamId,
        argument: &[u8],
        changes: &mut Changes,
    ) {
        let pending = group.pending(id).expect("it is pending");
        let mut time = itoa::Buffer::new();
        let mut count = itoa::Buffer::new();
        changes.propagate(
            self.db,
            [
                b"XCLAIM",
                self.key,
                self.group,
                group.consumer(pending.consumer).name(),
                b"0",
                argument,
                b"TIME",
                time.format(pending.delivery_time_ms).as_bytes(),
                b"RETRYCOUNT",
                count.format(pending.delivery_count as i64).as_bytes(),
                b"FORCE",
                b"JUSTID",
                b"LASTID",
                group.last_id.text(&mut [0; ID_TEXT_MAX]),
            ],
        );
    }

    /// Tells replicas up to where the group has read, where no claim tells it.
    pub(in crate::commands) fn propagate_place(&self, group: &Group, changes: &mut Changes) {
        let mut read = itoa::Buffer::new();
        changes.propagate(
            self.db,
            [
                &b"XGROUP"[..],
                b"SETID",
                self.key,
                self.group,
                group.last_id.text(&mut [0; ID_TEXT_MAX]),
                b"ENTRIESREAD",
                read.format(group.entries_read.map_or(-1, |read| read as i64)).as_bytes(),
            ],
        );
    }

    /// Tells replicas of a consumer that no claim tells of.
    pub(in crate::commands) fn propagate_consumer(&self, name: &[u8], changes: &mut Changes) {
        changes.propagate(self.db, [&b"XGROUP"[..], b"CREATECONSUMER", self.key, self.group, name]);
    }

    /// There is no such group, or not even the stream.
    pub(in crate::commands) fn missing(&self, suffix: &str) -> CmdError {
        let parts = [
            b"NOGROUP No such key '",
            printed(self.key),
            b"' or consumer group '",
            printed(self.group),
            b"'",
            suffix.as_bytes(),
        ];
        CmdError::bytes(parts.concat())
    }
}

/// There is no such group in a stream that is there.
pub(in crate::commands) fn no_group(key: &[u8], group: &[u8]) -> CmdError {
    CmdError::bytes(
        [b"NOGROUP No such consumer group '", printed(group), b"' for key name '", printed(key), b"'"]
            .concat(),
    )
}

// ---- the subcommands

/// What may stand behind the id.
struct Options {
    mkstream: bool,
    entries_read: Option<u64>,
}

impl Options {
    fn parse(ctx: &Ctx, of_create: bool) -> Result<Options, CmdError> {
        let mut options = Options { mkstream: false, entries_read: None };
        let mut arguments = ctx.args.cursor(5);
        while !arguments.is_done() {
            if of_create && arguments.flag("MKSTREAM") {
                options.mkstream = true;
            } else if arguments.option("ENTRIESREAD", 1) {
                options.entries_read = match arguments.int()? {
                    -1 => None,
                    ..-1 => {
                        return Err(CmdError::text("ERR value for ENTRIESREAD must be positive or -1"));
                    }
                    read => Some(read as u64),
                };
            } else {
                return Err(wrong_arguments(ctx));
            }
        }
        Ok(options)
    }
}

fn wrong_arguments(ctx: &Ctx) -> CmdError {
    CmdError::subcommand("xgroup", ctx.args.get(1))
}

/// The stream that a subcommand works on, which has to be there.
fn stream<'c>(ctx: &'c mut Ctx) -> Result<&'c mut Stream, CmdError> {
    ctx.db.write_as::<Stream>(ctx.args.get(2))?.ok_or(CmdError::text(
        "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option to create an empty stream automatically.",
    ))
}

/// The group likewise.
fn group<'c>(ctx: &'c mut Ctx) -> Result<&'c mut Group, CmdError> {
    let (key, name) = (ctx.args.get(2), ctx.args.get(3));
    stream(ctx)?.group_mut(name).ok_or_else(|| no_group(key, name))
}

fn changed(ctx: &mut Ctx, event: &'static str) {
    ctx.db.changes.dirty += 1;
    ctx.db.event(ctx.args.get(2), Class::STREAM, event);
}

/// XGROUP CREATE key group id | $ [MKSTREAM] [ENTRIESREAD entries-read]
fn create(ctx: &mut Ctx) -> CmdResult {
    let (key, name, argument) = (ctx.args.get(2), ctx.args.get(3), ctx.args.get(4));
    let options = Options::parse(ctx, true)?;
    if ctx.args.len() > 8 {
        // Said only once the key was found to be what it has to be.
        return match ctx.db.write_as::<Stream>(key)? {
            None if !options.mkstream => stream(ctx).map(|_| Done),
            _ => Err(wrong_arguments(ctx)),
        };
    }
    let place = |last_id: StreamId| if argument == b"$" { Ok(last_id) } else { parse_id(argument, 0) };
    if options.mkstream && ctx.db.write_as::<Stream>(key)?.is_none() {
        let group = Group::new(place(StreamId::MIN)?, options.entries_read);
        let mut stream = Stream::new();
        stream.add_group(name, group);
        ctx.db.add(key, None, NewValue::Object(Object::from(stream)));
        ctx.db.changes.touch(ctx.db.index, key);
    } else {
        let stream = stream(ctx)?;
        let group = Group::new(place(stream.last_id())?, options.entries_read);
        if !stream.add_group(name, group) {
            return Err(CmdError::text("BUSYGROUP Consumer Group name already exists"));
        }
    }
    changed(ctx, "xgroup-create");
    ctx.reply.ok();
    Ok(Done)
}

/// XGROUP SETID key group id | $ [ENTRIESREAD entries-read]
fn set_id(ctx: &mut Ctx) -> CmdResult {
    let (key, name, argument) = (ctx.args.get(2), ctx.args.get(3), ctx.args.get(4));
    let options = Options::parse(ctx, false)?;
    let takes = matches!(ctx.args.len(), 5 | 7);
    let error = wrong_arguments(ctx);
    let stream = stream(ctx)?;
    stream.group(name).ok_or_else(|| no_group(key, name))?;
    if !takes {
        return Err(error);
    }
    let last_id = if argument == b"$" { stream.last_id() } else { parse_id_or_end(argument, 0)? };
    stream.place_group(name, last_id, options.entries_read);
    changed(ctx, "xgroup-setid");
    ctx.reply.ok();
    Ok(Done)
}

/// XGROUP DESTROY key group
fn destroy(ctx: &mut Ctx) -> CmdResult {
    let (key, name) = (ctx.args.get(2), ctx.args.get(3));
    let destroyed = stream(ctx)?.remove_group(name).is_some();
    if destroyed {
        changed(ctx, "xgroup-destroy");
        // Those who wait for news of this group have to hear that there will be none.
        ctx.db.changes.wake(ctx.db.index, key);
    }
    ctx.reply.int(i64::from(destroyed));
    Ok(Done)
}

/// XGROUP CREATECONSUMER key group consumer
fn create_consumer(ctx: &mut Ctx) -> CmdResult {
    let (name, now_ms) = (ctx.args.get(4), ctx.now_ms());
    let created = group(ctx)?.create_consumer(name, now_ms).is_some();
    if created {
        changed(ctx, "xgroup-createconsumer");
    }
    ctx.reply.int(i64::from(created));
    Ok(Done)
}

/// XGROUP DELCONSUMER key group consumer
fn delete_consumer(ctx: &mut Ctx) -> CmdResult {
    let name = ctx.args.get(4);
    let pending = group(ctx)?.delete_consumer(name);
    if pending.is_some() {
        changed(ctx, "xgroup-delconsumer");
    }
    ctx.reply.int(pending.unwrap_or(0) as i64);
    Ok(Done)
}

/// XGROUP HELP
fn xgroup_help(ctx: &mut Ctx) -> CmdResult {
    help::write(
        &mut ctx.reply,
        "XGROUP",
        &[
            "CREATE <key> <groupname> <id|$> [option]",
            "    Create a new consumer group. Options are:",
            "    * MKSTREAM",
            "      Create the empty stream if it does not exist.",
            "    * ENTRIESREAD entries_read",
            "      Set the group's entries_read counter (internal use).",
            "CREATECONSUMER <key> <groupname> <consumer>",
            "    Create a new consumer in the specified group.",
            "DELCONSUMER <key> <groupname> <consumer>",
            "    Remove the specified consumer.",
            "DESTROY <key> <groupname>",
            "    Remove the specified group.",
            "SETID <key> <groupname> <id|$> [ENTRIESREAD entries_read]",
            "    Set the current group ID and entries_read counter.",
        ],
    );
    Ok(Done)
}
