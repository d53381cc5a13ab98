//! Messages: SUBSCRIBE and its kin, PUBLISH, and PUBSUB, which tells who listens.

use crate::client::{ClientId, Kind, Outbox};
use crate::commands::help;
use crate::exec::flags::*;
use crate::exec::{
    Arg, ArgKind, Args, Channels, CmdError, CmdResult, Command, Done, Group, KeySpec, arg, container,
    key_flags, server,
};
use crate::keyspace::Propagate;
use crate::server::Server;
use crate::structures::glob::Pattern;

const CHANNELS: &[Arg] = &[arg("channel", ArgKind::String).multiple()];
const SOME_CHANNELS: &[Arg] = &[arg("channel", ArgKind::String).optional().multiple()];
const SOME_SHARD_CHANNELS: &[Arg] = &[arg("shardchannel", ArgKind::String).optional().multiple()];
const A_PATTERN: &[Arg] = &[arg("pattern", ArgKind::Pattern).optional()];

pub(in crate::commands) const COMMANDS: &[Command<Server>] = &[
    server("subscribe", subscribe, -2)
        .flags(PUBSUB | NOSCRIPT | LOADING | STALE | WHILE_SUBSCRIBED)
        .channels(Channels::All)
        .doc(Group::PubSub, "2.0.0", "O(N) for N channels", "Listens to channels.")
        .args(CHANNELS),
    server("unsubscribe", unsubscribe, -1)
        .flags(PUBSUB | NOSCRIPT | LOADING | STALE | WHILE_SUBSCRIBED)
        .doc(Group::PubSub, "2.0.0", "O(N) for N channels", "Stops listening to channels, or to all.")
        .args(SOME_CHANNELS),
    server("psubscribe", psubscribe, -2)
        .flags(PUBSUB | NOSCRIPT | LOADING | STALE | WHILE_SUBSCRIBED)
        .channels(Channels::Patterns)
        .doc(
            Group::PubSub,
            "2.0.0",
            "O(N) for N patterns",
            "Listens to all channels whose names match one of the patterns.",
        )
        .args(&[arg("pattern", ArgKind::Pattern).multiple()]),
    server("punsubscribe", punsubscribe, -1)
        .flags(PUBSUB | NOSCRIPT | LOADING | STALE | WHILE_SUBSCRIBED)
        .doc(Group::PubSub, "2.0.0", "O(N) for N patterns", "Stops listening by patterns, or by all.")
        .args(&[arg("pattern", ArgKind::Pattern).optional().multiple()]),
    server("ssubscribe", ssubscribe, -2)
        .flags(PUBSUB | NOSCRIPT | LOADING | STALE | WHILE_SUBSCRIBED)
        .keys(&[KeySpec::range(key_flags::NOT_KEY, 1, -1, 1)])
        .channels(Channels::All)
        .doc(Group::PubSub, "7.0.0", "O(N) for N shard channels", "Listens to shard channels.")
        .args(&[arg("shardchannel", ArgKind::String).multiple()]),
    server("sunsubscribe", sunsubscribe, -1)
        .flags(PUBSUB | NOSCRIPT | LOADING | STALE | WHILE_SUBSCRIBED)
        .keys(&[KeySpec::range(key_flags::NOT_KEY, 1, -1, 1)])
        .doc(
            Group::PubSub,
            "7.0.0",
            "O(N) for N shard channels",
            "Stops listening to shard channels, or to all.",
        )
        .args(SOME_SHARD_CHANNELS),
    server("publish", publish, 3)
        .flags(PUBSUB | LOADING | STALE | FAST | MAY_REPLICATE)
        .channels(Channels::First)
        .doc(
            Group::PubSub,
            "2.0.0",
            "O(N+M) for N listeners of the channel and M patterns that anybody listens by",
            "Sends a message to all who listen to a channel.",
        )
        .args(&[arg("channel", ArgKind::String), arg("message", ArgKind::String)]),
    server("spublish", spublish, 3)
        .flags(PUBSUB | LOADING | STALE | FAST | MAY_REPLICATE)
        .keys(&[KeySpec::range(key_flags::NOT_KEY, 1, 1, 1)])
        .channels(Channels::First)
        .doc(
            Group::PubSub,
            "7.0.0",
            "O(N) for N listeners of the shard channel",
            "Sends a message to all who listen to a shard channel.",
        )
        .args(&[arg("shardchannel", ArgKind::String), arg("message", ArgKind::String)]),
    container(
        "pubsub",
        &[
            server("channels", channels, -2)
                .of("pubsub|channels")
                .flags(PUBSUB | LOADING | STALE)
                .doc(
                    Group::PubSub,
                    "2.8.0",
                    "O(N) for N channels",
                    "Names the channels that somebody listens to.",
                )
                .args(A_PATTERN),
            server("numpat", numpat, 2).of("pubsub|numpat").flags(PUBSUB | LOADING | STALE).doc(
                Group::PubSub,
                "2.8.0",
                "O(1)",
                "Counts the different patterns that somebody listens by.",
            ),
            server("numsub", numsub, -2)
                .of("pubsub|numsub")
                .flags(PUBSUB | LOADING | STALE)
                .doc(Group::PubSub, "2.8.0", "O(N) for N channels", "Counts the listeners of channels.")
                .args(SOME_CHANNELS),
            server("shardchannels", shardchannels, -2)
                .of("pubsub|shardchannels")
                .flags(PUBSUB | LOADING | STALE)
                .doc(
                    Group::PubSub,
                    "7.0.0",
                    "O(N) for N shard channels",
                    "Names the shard channels that somebody listens to.",
                )
                .args(A_PATTERN),
            server("shardnumsub", shardnumsub, -2)
                .of("pubsub|shardnumsub")
                .flags(PUBSUB | LOADING | STALE)
                .doc(
                    Group::PubSub,
                    "7.0.0",
                    "O(N) for N shard channels",
                    "Counts the listeners of shard channels.",
                )
                .args(SOME_SHARD_CHANNELS),
            server("help", pubsub_help, 2).of("pubsub|help").flags(LOADING | STALE).doc(
                Group::PubSub,
                "6.2.0",
                "O(1)",
                "Describes the subcommands.",
            ),
        ],
    )
    .doc(Group::PubSub, "2.8.0", "Depends on subcommand.", "Tells who listens to what."),
];

/// SUBSCRIBE channel [channel ...]
fn subscribe(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    listen(server, id, args, Kind::Channel, "SUBSCRIBE")
}

/// PSUBSCRIBE pattern [pattern ...]
fn psubscribe(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    listen(server, id, args, Kind::Pattern, "PSUBSCRIBE")
}

/// SSUBSCRIBE shardchannel [shardchannel ...]
fn ssubscribe(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    listen(server, id, args, Kind::ShardChannel, "SSUBSCRIBE")
}

fn listen(server: &mut Server, id: ClientId, args: Args, kind: Kind, name: &str) -> CmdResult {
    // Where each command must have one reply there is no place for subscriptions. Transactions are excepted for the
    // sake of old clients, which knew no shard channels.
    let denied = server.client(id).is_some_and(|client| {
        client.session.deny_blocking && (!client.session.in_exec || kind == Kind::ShardChannel)
    });
    if denied {
        return Err(CmdError::new(format!("ERR {name} isn't allowed for a DENY BLOCKING client")));
    }
    let Server { pubsub, clients, outgoing, .. } = server;
    let mut outbox = Outbox::new(clients, outgoing);
    for topic in args.from(1) {
        pubsub.subscribe(&mut outbox, id, kind, topic);
    }
    Ok(Done)
}

/// UNSUBSCRIBE [channel ...]
fn unsubscribe(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    stop_listening(server, id, args, Kind::Channel)
}

/// PUNSUBSCRIBE [pattern ...]
fn punsubscribe(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    stop_listening(server, id, args, Kind::Pattern)
}

/// SUNSUBSCRIBE [shardchannel ...]
fn sunsubscribe(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    stop_listening(server, id, args, Kind::ShardChannel)
}

fn stop_listening(server: &mut Server, id: ClientId, args: Args, kind: Kind) -> CmdResult {
    let Server { pubsub, clients, outgoing, .. } = server;
    let mut outbox = Outbox::new(clients, outgoing);
    if args.len() == 1 {
        pubsub.unsubscribe_all(&mut outbox, id, kind);
    }
    for topic in args.from(1) {
        pubsub.unsubscribe(&mut outbox, id, kind, topic);
    }
    Ok(Done)
}

/// PUBLISH channel message
fn publish(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    send(server, id, args, Kind::Channel)
}

/// SPUBLISH shardchannel message
fn spublish(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    send(server, id, args, Kind::ShardChannel)
}

fn send(server: &mut Server, id: ClientId, args: Args, kind: Kind) -> CmdResult {
    let Server { pubsub, clients, outgoing, .. } = server;
    let receivers = pubsub.publish(&mut Outbox::new(clients, outgoing), kind, args.get(1), args.get(2));
    // Those who have subscribed at a replica are sent it, too.
    server.changes.propagate = Propagate::Always;
    server.reply(id).int(receivers as i64);
    Ok(Done)
}

/// PUBSUB CHANNELS [pattern]
fn channels(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    name_topics(server, id, args, Kind::Channel)
}

/// PUBSUB SHARDCHANNELS [pattern]
fn shardchannels(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    name_topics(server, id, args, Kind::ShardChannel)
}

fn name_topics(server: &mut Server, id: ClientId, args: Args, kind: Kind) -> CmdResult {
    if args.len() > 3 {
        return Err(CmdError::subcommand("pubsub", args.get(1)));
    }
    let pattern = (args.len() == 3).then(|| Pattern::new(args.get(2)));
    server.reply_with(id, |server, reply| {
        let all = server.pubsub.topics(kind);
        let named: Vec<_> =
            all.filter(|topic| pattern.as_ref().is_none_or(|pattern| pattern.matches(topic))).collect();
        reply.array(named.len());
        for topic in named {
            reply.bulk(topic);
        }
    });
    Ok(Done)
}

/// PUBSUB NUMPAT
fn numpat(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    let count = server.pubsub.topics(Kind::Pattern).len();
    server.reply(id).int(count as i64);
    Ok(Done)
}

/// PUBSUB NUMSUB [channel ...]
fn numsub(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    count_listeners(server, id, args, Kind::Channel)
}

/// PUBSUB SHARDNUMSUB [shardchannel ...]
fn shardnumsub(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    count_listeners(server, id, args, Kind::ShardChannel)
}

fn count_listeners(server: &mut Server, id: ClientId, args: Args, kind: Kind) -> CmdResult {
    server.reply_with(id, |server, reply| {
        let topics = args.from(2);
        reply.array(topics.len() * 2);
        for topic in topics {
            reply.bulk(topic);
            reply.int(server.pubsub.subscribers(kind, topic) as i64);
        }
    });
    Ok(Done)
}

/// PUBSUB HELP
fn pubsub_help(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    let lines = [
        "CHANNELS [<pattern>]",
        "    Return the currently active channels matching a <pattern> (default: '*').",
        "NUMPAT",
        "    Return number of subscriptions to patterns.",
        "NUMSUB [<channel> ...]",
        "    Return the number of subscribers for the specified channels, excluding",
        "    pattern subscriptions(default: no channels).",
        "SHARDCHANNELS [<pattern>]",
        "    Return the currently active shard level channels matching a <pattern> (default: '*').",
        "SHARDNUMSUB [<shardchannel> ...]",
        "    Return the number of subscribers for the specified shard level channel(s)",
    ];
    help::write(&mut server.reply(id), "PUBSUB", &lines);
    Ok(Done)
}
