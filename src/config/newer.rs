//! Directives of servers after 7.2, of either line, that are none here: other names of what is here, and what promises
//! something that is not built. These are refused by name, unless the value promises nothing.

use super::Reason;
use super::load::not_supported;

/// Another name of a directive.
const ALIASES: &[(&str, &str)] = &[
    ("primaryauth", "masterauth"),
    ("primaryuser", "masteruser"),
    ("server-cpulist", "server_cpulist"),
    ("bio-cpulist", "bio_cpulist"),
    ("aof-rewrite-cpulist", "aof_rewrite_cpulist"),
    ("bgsave-cpulist", "bgsave_cpulist"),
];

/// A directive that is not here.
struct Newer {
    name: &'static str,
    /// The values that promise nothing that is missing.
    harmless: &'static [&'static str],
    because: &'static str,
}

const fn newer(name: &'static str, harmless: &'static [&'static str], because: &'static str) -> Newer {
    Newer { name, harmless, because }
}

const NO: &[&str] = &["no"];
const CLUSTER: &str = "cluster mode is not built";
const BATCHES: &str = "the number of requests that are read ahead is fixed";

const NEWER: &[Newer] = &[
    newer("active-defrag-cycle-us", &["500"], "active defragmentation is not built"),
    newer("cluster-announce-client-ipv4", &[""], CLUSTER),
    newer("cluster-announce-client-ipv6", &[""], CLUSTER),
    newer("cluster-announce-client-port", &["0"], CLUSTER),
    newer("cluster-announce-client-tls-port", &["0"], CLUSTER),
    newer("cluster-blacklist-ttl", &["60"], CLUSTER),
    newer("cluster-compatibility-sample-ratio", &["0"], CLUSTER),
    newer("cluster-config-save-behavior", &["sync"], CLUSTER),
    newer("cluster-databases", &["1"], CLUSTER),
    newer("cluster-manual-failover-timeout", &["5000"], CLUSTER),
    newer("cluster-slot-migration-handoff-max-lag-bytes", &["1048576", "1mb"], CLUSTER),
    newer("cluster-slot-migration-log-max-len", &["1000"], CLUSTER),
    newer("cluster-slot-migration-write-pause-timeout", &["10000"], CLUSTER),
    newer("cluster-slot-stats-enabled", NO, CLUSTER),
    newer("dual-channel-replication-enabled", NO, "a dump comes on the connection of the stream"),
    newer("repl-rdb-channel", NO, "a dump comes on the connection of the stream"),
    newer("extended-redis-compatibility", &["no", "yes"], "we say that we are Redis in either case"),
    newer("hash-seed", &[""], "the seed of the hash tables is a secret of each process"),
    newer("key-memory-histograms", NO, "histograms of the sizes of keys are not built"),
    newer("lookahead", &["16"], BATCHES),
    newer("prefetch-batch-max-size", &["16"], BATCHES),
    newer("max-new-tls-connections-per-cycle", &["1"], "TLS is not built"),
    newer("mptcp", NO, "multipath TCP is not built"),
    newer("repl-mptcp", NO, "multipath TCP is not built"),
    newer("rdma-bind", &[""], "RDMA is not built"),
    newer("rdma-completion-vector", &["-1"], "RDMA is not built"),
    newer("rdma-port", &["0"], "RDMA is not built"),
    newer("rdma-rx-size", &["1048576", "1mb"], "RDMA is not built"),
    newer(
        "replica-full-sync-buffer-limit",
        &["0"],
        "what comes of the stream during a dump waits at the master",
    ),
    newer("slot-migration-max-failover-repl-bytes", &["0"], CLUSTER),
    newer("stream-idmp-duration", &["100"], "the default of XCFGSET is fixed"),
    newer("stream-idmp-maxsize", &["100"], "the default of XCFGSET is fixed"),
    newer("tls-auth-clients-user", &["off"], "TLS is not built"),
    newer("tls-auto-reload-interval", &["0"], "TLS is not built"),
    newer("vset-force-single-threaded-execution", NO, "vector sets are not built"),
];

/// The name here of a directive that has another elsewhere.
pub(super) fn alias(name: &[u8]) -> Option<&'static str> {
    ALIASES.iter().find(|(alias, _)| name.eq_ignore_ascii_case(alias.as_bytes())).map(|(_, name)| *name)
}

/// Judges a line with a directive that is not here; `None` if no server has it.
pub(super) fn judge(name: &[u8], args: &[Vec<u8>]) -> Option<Result<(), Reason>> {
    let newer = NEWER.iter().find(|newer| name == newer.name.as_bytes())?;
    let harmless = match args {
        [value] => newer.harmless.iter().any(|known| value.eq_ignore_ascii_case(known.as_bytes())),
        _ => false,
    };
    Some(if harmless { Ok(()) } else { Err(not_supported(name, args, newer.because)) })
}

/// Directives that are taken and change less here than elsewhere, with the value that does not matter and why.
const DIFFERENT: &[(&str, &[&str], &str)] = &[
    ("crash-memcheck-enabled", NO, "no test of the memory is made after a crash (see --test-memory)"),
    ("sanitize-dump-payload", &["yes"], "payloads are always checked in full"),
    ("lazyfree-lazy-eviction", &["yes"], "big values are freed by a helper thread in either case"),
    ("lazyfree-lazy-expire", &["yes"], "big values are freed by a helper thread in either case"),
    ("lazyfree-lazy-server-del", &["yes"], "big values are freed by a helper thread in either case"),
    ("lazyfree-lazy-user-del", &["yes"], "big values are freed by a helper thread in either case"),
];

/// What is different here about a line that is taken.
pub(super) fn difference(name: &[u8], args: &[Vec<u8>]) -> Option<&'static str> {
    if NEWER.iter().any(|newer| name == newer.name.as_bytes()) {
        return Some("there is no such directive here, and none is needed for this value");
    }
    let (_, same, why) = DIFFERENT.iter().find(|(known, ..)| name == known.as_bytes())?;
    let is_same =
        matches!(args, [value] if same.iter().any(|same| value.eq_ignore_ascii_case(same.as_bytes())));
    (!is_same).then_some(*why)
}
