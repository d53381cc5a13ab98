//! CLUSTER and ASKING, as a server answers whose cluster mode is off: the words are known, and each
//! is refused by that reason, which is how clients find out that they need not look for slots.

use crate::client::ClientId;
use crate::exec::flags::*;
use crate::exec::{
    Arg, ArgKind, Args, CmdError, CmdResult, Command, Group, acl, arg, block, container, one_of, server,
    token,
};
use crate::server::Server;

pub(super) const COMMANDS: &[Command<Server>] = &[
    container("cluster", SUBCOMMANDS).doc(
        Group::Cluster,
        "3.0.0",
        "Depends on subcommand.",
        "A container for commands on the cluster.",
    ),
    server("asking", disabled, 1).flags(FAST).acl(acl::CONNECTION).doc(
        Group::Cluster,
        "3.0.0",
        "O(1)",
        "Lets the next command ask for a slot that is on its way here.",
    ),
];

const CHANGES_THE_CLUSTER: u64 = ADMIN | STALE | NO_ASYNC_LOADING;

/// A subcommand. Its name follows from the full one.
const fn row(full_name: &'static str, arity: i32, flags: u64) -> Command<Server> {
    let (_, name) = full_name.split_at("cluster|".len());
    server(name, disabled, arity).of(full_name).flags(flags)
}

const SLOTS: &[Arg] = &[arg("slot", ArgKind::Integer).multiple()];
const SLOT_RANGES: &[Arg] =
    &[block("range", &[arg("start-slot", ArgKind::Integer), arg("end-slot", ArgKind::Integer)]).multiple()];
const NODE: &[Arg] = &[arg("node-id", ArgKind::String)];
const OF_SLOTS: &str = "O(N) where N is the total number of hash slot arguments";
const OF_RANGES: &str =
    "O(N) where N is the total number of the slots between the start slot and end slot arguments.";
const OF_NODES: &str = "O(N) where N is the total number of Cluster nodes";
const OF_REPLICAS: &str = "O(N) where N is the number of replicas.";
const UNORDERED: &[&str] = &["nondeterministic_output"];

const SUBCOMMANDS: &[Command<Server>] = &[
    row("cluster|addslots", -3, CHANGES_THE_CLUSTER)
        .doc(Group::Cluster, "3.0.0", OF_SLOTS, "Gives hash slots to this node.")
        .args(SLOTS),
    row("cluster|addslotsrange", -4, CHANGES_THE_CLUSTER)
        .doc(Group::Cluster, "7.0.0", OF_RANGES, "Gives ranges of hash slots to this node.")
        .args(SLOT_RANGES),
    row("cluster|bumpepoch", 2, CHANGES_THE_CLUSTER)
        .doc(Group::Cluster, "3.0.0", "O(1)", "Raises the epoch of the configuration.")
        .tips(UNORDERED),
    row("cluster|count-failure-reports", 3, ADMIN | STALE)
        .doc(
            Group::Cluster,
            "3.0.0",
            "O(N) where N is the number of failure reports",
            "Counts those who say that a node has failed.",
        )
        .tips(UNORDERED)
        .args(NODE),
    row("cluster|countkeysinslot", 3, STALE)
        .doc(Group::Cluster, "3.0.0", "O(1)", "Counts the keys of a hash slot.")
        .args(&[arg("slot", ArgKind::Integer)]),
    row("cluster|delslots", -3, CHANGES_THE_CLUSTER)
        .doc(Group::Cluster, "3.0.0", OF_SLOTS, "Takes hash slots from whoever serves them.")
        .args(SLOTS),
    row("cluster|delslotsrange", -4, CHANGES_THE_CLUSTER)
        .doc(Group::Cluster, "7.0.0", OF_RANGES, "Takes ranges of hash slots from whoever serves them.")
        .args(SLOT_RANGES),
    row("cluster|failover", -2, CHANGES_THE_CLUSTER)
        .doc(Group::Cluster, "3.0.0", "O(1)", "Lets a replica take its master's place.")
        .args(&[one_of("options", &[token("force", "FORCE"), token("takeover", "TAKEOVER")]).optional()]),
    row("cluster|flushslots", 2, CHANGES_THE_CLUSTER).doc(
        Group::Cluster,
        "3.0.0",
        "O(1)",
        "Takes all hash slots from this node.",
    ),
    row("cluster|forget", 3, CHANGES_THE_CLUSTER)
        .doc(Group::Cluster, "3.0.0", "O(1)", "Strikes a node off the list of nodes.")
        .args(NODE),
    row("cluster|getkeysinslot", 4, STALE)
        .doc(
            Group::Cluster,
            "3.0.0",
            "O(N) where N is the number of requested keys",
            "Names keys of a hash slot.",
        )
        .tips(UNORDERED)
        .args(&[arg("slot", ArgKind::Integer), arg("count", ArgKind::Integer)]),
    row("cluster|help", 2, LOADING | STALE).doc(
        Group::Cluster,
        "5.0.0",
        "O(1)",
        "Describes the subcommands.",
    ),
    row("cluster|info", 2, STALE)
        .doc(Group::Cluster, "3.0.0", "O(1)", "Tells how the cluster stands, as this node sees it.")
        .tips(UNORDERED),
    row("cluster|keyslot", 3, STALE)
        .doc(
            Group::Cluster,
            "3.0.0",
            "O(N) where N is the number of bytes in the key",
            "Tells which hash slot a key is in.",
        )
        .args(&[arg("key", ArgKind::String)]),
    row("cluster|links", 2, STALE)
        .doc(Group::Cluster, "7.0.0", OF_NODES, "Lists the connections between this node and others.")
        .tips(UNORDERED),
    row("cluster|meet", -4, CHANGES_THE_CLUSTER)
        .doc(Group::Cluster, "3.0.0", "O(1)", "Makes this node known to another.")
        .history(&[("4.0.0", "Takes the port of the cluster's bus.")])
        .args(&[
            arg("ip", ArgKind::String),
            arg("port", ArgKind::Integer),
            arg("cluster-bus-port", ArgKind::Integer).optional().since("4.0.0"),
        ]),
    row("cluster|myid", 2, STALE).doc(Group::Cluster, "3.0.0", "O(1)", "Tells the id of this node."),
    row("cluster|myshardid", 2, STALE)
        .doc(Group::Cluster, "7.2.0", "O(1)", "Tells the id of this node's shard.")
        .tips(UNORDERED),
    row("cluster|nodes", 2, STALE)
        .doc(Group::Cluster, "3.0.0", OF_NODES, "Tells of every node that this one knows.")
        .tips(UNORDERED),
    row("cluster|replicas", 3, ADMIN | STALE)
        .doc(Group::Cluster, "5.0.0", OF_REPLICAS, "Lists the replicas of a node.")
        .tips(UNORDERED)
        .args(NODE),
    row("cluster|replicate", 3, CHANGES_THE_CLUSTER)
        .doc(Group::Cluster, "3.0.0", "O(1)", "Makes this node a replica of another.")
        .args(NODE),
    row("cluster|reset", -2, ADMIN | NOSCRIPT | STALE)
        .doc(
            Group::Cluster,
            "3.0.0",
            "O(N) where N is the number of known nodes. The command may execute a FLUSHALL as a side effect.",
            "Lets this node forget the cluster.",
        )
        .args(&[one_of("reset-type", &[token("hard", "HARD"), token("soft", "SOFT")]).optional()]),
    row("cluster|saveconfig", 2, CHANGES_THE_CLUSTER).doc(
        Group::Cluster,
        "3.0.0",
        "O(1)",
        "Writes what this node knows of the cluster to its disk.",
    ),
    row("cluster|set-config-epoch", 3, CHANGES_THE_CLUSTER)
        .doc(Group::Cluster, "3.0.0", "O(1)", "Sets the epoch of the configuration of a new node.")
        .args(&[arg("config-epoch", ArgKind::Integer)]),
    row("cluster|setslot", -4, CHANGES_THE_CLUSTER)
        .doc(Group::Cluster, "3.0.0", "O(1)", "Says which node a hash slot belongs to, or is on its way to.")
        .args(&[
            arg("slot", ArgKind::Integer),
            one_of(
                "subcommand",
                &[
                    arg("importing", ArgKind::String).token("IMPORTING").display("node-id"),
                    arg("migrating", ArgKind::String).token("MIGRATING").display("node-id"),
                    arg("node", ArgKind::String).token("NODE").display("node-id"),
                    token("stable", "STABLE"),
                ],
            ),
        ]),
    row("cluster|shards", 2, LOADING | STALE)
        .doc(
            Group::Cluster,
            "7.0.0",
            "O(N) where N is the total number of cluster nodes",
            "Tells which nodes serve which hash slots, shard by shard.",
        )
        .tips(UNORDERED),
    row("cluster|slaves", 3, ADMIN | STALE)
        .doc(Group::Cluster, "3.0.0", OF_REPLICAS, "Lists the replicas of a node.")
        .deprecated("5.0.0", "`CLUSTER REPLICAS`")
        .tips(UNORDERED)
        .args(NODE),
    row("cluster|slots", 2, LOADING | STALE)
        .doc(Group::Cluster, "3.0.0", OF_NODES, "Tells which nodes serve which hash slots.")
        .deprecated("7.0.0", "`CLUSTER SHARDS`")
        .history(&[("4.0.0", "Tells the ids of nodes."), ("7.0.0", "Tells more ways to reach a node.")])
        .tips(UNORDERED),
];

fn disabled(_: &mut Server, _: ClientId, _: Args) -> CmdResult {
    Err(CmdError::text("ERR This instance has cluster support disabled"))
}
