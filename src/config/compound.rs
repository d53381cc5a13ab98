//! Values of several arguments, each with a grammar of its own: save points, addresses, buffer limits, and their kin.

use super::line;
use super::value::{Form, Lines, Reason, RewrittenLine, Source, Text, Value, not_one_of, only_arg};
use nix::errno::Errno;
use std::ffi::OsStr;
use std::ops::Deref;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// "After `seconds`, if at least `changes` keys changed."
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SavePoint {
    pub seconds: u64,
    pub changes: u64,
}

/// The save points. The first `save` line of a file replaces the defaults, later ones add to it, an empty one clears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavePoints {
    points: Vec<SavePoint>,
    explicit: bool,
}

impl Default for SavePoints {
    fn default() -> Self {
        let points = [(3600, 1), (300, 100), (60, 10000)];
        SavePoints {
            points: points.map(|(seconds, changes)| SavePoint { seconds, changes }).to_vec(),
            explicit: false,
        }
    }
}

impl SavePoints {
    pub fn points(&self) -> &[SavePoint] {
        &self.points
    }

    /// Whether somebody wrote that there are to be none.
    pub fn are_declined(&self) -> bool {
        self.explicit && self.points.is_empty()
    }

    /// The classic rule: a file without any `save` line means that nothing is saved by itself.
    pub(super) fn clear_unless_explicit(&mut self) {
        if !self.explicit {
            self.points.clear();
        }
    }
}

impl Value for SavePoints {
    fn set(&mut self, _: Form, args: &[Vec<u8>], source: Source) -> Result<(), Reason> {
        let clears = args.iter().all(|arg| arg.is_empty()) && args.len() <= 1;
        let args = if clears { &[] } else { args };
        let invalid = || "Invalid save parameters".to_string();
        if !args.len().is_multiple_of(2) {
            return Err(invalid());
        }
        let mut points = Vec::new();
        for pair in args.chunks_exact(2) {
            let number = |arg: &[u8]| line::lenient_integer(arg, 10).and_then(|n| u64::try_from(n).ok());
            let seconds = number(&pair[0]).filter(|&seconds| seconds >= 1).ok_or_else(invalid)?;
            points.push(SavePoint { seconds, changes: number(&pair[1]).ok_or_else(invalid)? });
        }
        if source == Source::ConfigSet || !self.explicit || clears {
            self.points.clear();
        }
        self.explicit = true;
        self.points.extend(points);
        Ok(())
    }

    fn show(&self, _: Form) -> Vec<u8> {
        join(self.points.iter().map(|point| format!("{} {}", point.seconds, point.changes)))
    }

    fn lines(&self, _: Form, _: &[u8]) -> Lines {
        if self.points.is_empty() {
            return vec![RewrittenLine { args: b"\"\"".to_vec(), forced: true }];
        }
        let line = |point: &SavePoint| RewrittenLine {
            args: format!("{} {}", point.seconds, point.changes).into_bytes(),
            forced: true,
        };
        self.points.iter().map(line).collect()
    }
}

/// The addresses to listen on. `*` and `::*` stand for all IPv4 and all IPv6 addresses; a leading `-` forgives an
/// address that this machine does not have. No address at all listens on no TCP port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind(Vec<Text>);

pub struct BindAddress<'a> {
    pub host: &'a str,
    /// It is no error when the address cannot be had.
    pub optional: bool,
}

const MOST_BIND_ADDRESSES: usize = 16;

impl Default for Bind {
    fn default() -> Self {
        Bind(vec!["*".into(), "-::*".into()])
    }
}

impl Bind {
    /// An address that is no text at all is one that nobody has, so it is given as it would be shown empty.
    pub fn addresses(&self) -> impl Iterator<Item = BindAddress<'_>> {
        self.0.iter().map(|address| {
            let text = std::str::from_utf8(address).unwrap_or_default();
            match text.strip_prefix('-') {
                Some(host) => BindAddress { host, optional: true },
                None => BindAddress { host: text, optional: false },
            }
        })
    }

    /// The addresses as written.
    pub fn arguments(&self) -> &[Text] {
        &self.0
    }
}

impl Value for Bind {
    fn set(&mut self, _: Form, args: &[Vec<u8>], _: Source) -> Result<(), Reason> {
        if args.len() > MOST_BIND_ADDRESSES {
            return Err("Too many bind addresses specified.".into());
        }
        self.0 = match args {
            [only] if only.is_empty() => Vec::new(),
            _ => args.iter().map(|arg| Text::from(arg.clone())).collect(),
        };
        Ok(())
    }

    fn show(&self, _: Form) -> Vec<u8> {
        let arguments: Vec<&[u8]> = self.0.iter().map(|argument| &**argument).collect();
        arguments.join(&b' ')
    }

    fn lines(&self, form: Form, default: &[u8]) -> Lines {
        let args = self.show(form);
        if args == default {
            return Vec::new();
        }
        let args = if args.is_empty() { b"\"\"".to_vec() } else { args };
        vec![RewrittenLine { args, forced: true }]
    }
}

/// The output buffer limits of one class of clients; zero is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputBufferLimit {
    pub hard_bytes: u64,
    pub soft_bytes: u64,
    pub soft_seconds: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputBufferLimits {
    pub normal: OutputBufferLimit,
    pub replica: OutputBufferLimit,
    pub pubsub: OutputBufferLimit,
}

impl Default for OutputBufferLimits {
    fn default() -> Self {
        let limit = |hard_mb: u64, soft_mb: u64, soft_seconds| OutputBufferLimit {
            hard_bytes: hard_mb << 20,
            soft_bytes: soft_mb << 20,
            soft_seconds,
        };
        OutputBufferLimits { normal: limit(0, 0, 0), replica: limit(256, 64, 60), pubsub: limit(32, 8, 60) }
    }
}

impl OutputBufferLimits {
    fn classes(&self) -> [(&'static str, OutputBufferLimit); 3] {
        [("normal", self.normal), ("slave", self.replica), ("pubsub", self.pubsub)]
    }
}

impl Value for OutputBufferLimits {
    fn set(&mut self, _: Form, args: &[Vec<u8>], _: Source) -> Result<(), Reason> {
        if !args.len().is_multiple_of(4) {
            return Err("Wrong number of arguments in buffer limit configuration.".into());
        }
        let mut limits = *self;
        for group in args.chunks_exact(4) {
            let class = match group[0].to_ascii_lowercase().as_slice() {
                b"normal" => &mut limits.normal,
                b"slave" | b"replica" => &mut limits.replica,
                b"pubsub" => &mut limits.pubsub,
                _ => return Err("Invalid client class specified in buffer limit configuration.".into()),
            };
            let seconds = line::lenient_integer(&group[3], 10).and_then(|n| u64::try_from(n).ok());
            match (line::memory(&group[1]), line::memory(&group[2]), seconds) {
                (Some(hard_bytes), Some(soft_bytes), Some(soft_seconds)) => {
                    *class = OutputBufferLimit { hard_bytes, soft_bytes, soft_seconds };
                }
                _ => {
                    return Err(
                        "Error in hard, soft or soft_seconds setting in buffer limit configuration.".into()
                    );
                }
            }
        }
        *self = limits;
        Ok(())
    }

    fn show(&self, _: Form) -> Vec<u8> {
        join(self.classes().iter().map(|(class, limit)| {
            format!("{class} {} {} {}", limit.hard_bytes, limit.soft_bytes, limit.soft_seconds)
        }))
    }

    fn lines(&self, _: Form, _: &[u8]) -> Lines {
        let defaults = OutputBufferLimits::default().classes();
        let mut lines = Vec::new();
        for ((class, limit), (_, default)) in self.classes().into_iter().zip(defaults) {
            let class = if class == "slave" { "replica" } else { class };
            let (hard, soft) = (line::format_memory(limit.hard_bytes), line::format_memory(limit.soft_bytes));
            lines.push(RewrittenLine {
                args: format!("{class} {hard} {soft} {}", limit.soft_seconds).into_bytes(),
                forced: limit != default,
            });
        }
        lines
    }
}

/// What the kernel's out-of-memory killer shall think of a master, a replica and a snapshot child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OomScoreAdjValues {
    pub master: i32,
    pub replica: i32,
    pub child: i32,
}

impl Default for OomScoreAdjValues {
    fn default() -> Self {
        OomScoreAdjValues { master: 0, replica: 200, child: 800 }
    }
}

impl Value for OomScoreAdjValues {
    fn set(&mut self, _: Form, args: &[Vec<u8>], _: Source) -> Result<(), Reason> {
        let [master, replica, child] = args else { return Err("wrong number of arguments".into()) };
        let score = |arg: &[u8]| {
            let score = line::lenient_integer(arg, 10).filter(|score| (-2000..=2000).contains(score));
            score.map(|score| score as i32).ok_or_else(|| {
                Reason::from("Invalid oom-score-adj-values, elements must be between -2000 and 2000.")
            })
        };
        *self = OomScoreAdjValues { master: score(master)?, replica: score(replica)?, child: score(child)? };
        Ok(())
    }

    fn show(&self, _: Form) -> Vec<u8> {
        format!("{} {} {}", self.master, self.replica, self.child).into_bytes()
    }
}

/// Which keyspace events are published, and on which kind of channel: one bit per class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyspaceEvents(u32);

impl KeyspaceEvents {
    pub const NONE: KeyspaceEvents = KeyspaceEvents(0);
    /// Publish on `__keyspace@<db>__:<key>`.
    pub const KEYSPACE: KeyspaceEvents = KeyspaceEvents(1 << 0);
    /// Publish on `__keyevent@<db>__:<event>`.
    pub const KEYEVENT: KeyspaceEvents = KeyspaceEvents(1 << 1);
    pub const GENERIC: KeyspaceEvents = KeyspaceEvents(1 << 2);
    pub const STRING: KeyspaceEvents = KeyspaceEvents(1 << 3);
    pub const LIST: KeyspaceEvents = KeyspaceEvents(1 << 4);
    pub const SET: KeyspaceEvents = KeyspaceEvents(1 << 5);
    pub const HASH: KeyspaceEvents = KeyspaceEvents(1 << 6);
    pub const ZSET: KeyspaceEvents = KeyspaceEvents(1 << 7);
    pub const EXPIRED: KeyspaceEvents = KeyspaceEvents(1 << 8);
    pub const EVICTED: KeyspaceEvents = KeyspaceEvents(1 << 9);
    pub const STREAM: KeyspaceEvents = KeyspaceEvents(1 << 10);
    /// Not among `ALL`, on purpose: reads would publish.
    pub const KEY_MISS: KeyspaceEvents = KeyspaceEvents(1 << 11);
    pub const MODULE: KeyspaceEvents = KeyspaceEvents(1 << 13);
    /// Not among `ALL` either, since it came later than `A` did.
    pub const NEW: KeyspaceEvents = KeyspaceEvents(1 << 14);
    pub const ALL: KeyspaceEvents = KeyspaceEvents(0b10_0111_1111_1100);

    /// The letters, in the order in which they are shown.
    const LETTERS: [(u8, KeyspaceEvents); 14] = [
        (b'g', Self::GENERIC),
        (b'$', Self::STRING),
        (b'l', Self::LIST),
        (b's', Self::SET),
        (b'h', Self::HASH),
        (b'z', Self::ZSET),
        (b'x', Self::EXPIRED),
        (b'e', Self::EVICTED),
        (b't', Self::STREAM),
        (b'd', Self::MODULE),
        (b'n', Self::NEW),
        (b'K', Self::KEYSPACE),
        (b'E', Self::KEYEVENT),
        (b'm', Self::KEY_MISS),
    ];

    pub fn contains(self, other: KeyspaceEvents) -> bool {
        self.0 & other.0 == other.0
    }

    pub fn intersects(self, other: KeyspaceEvents) -> bool {
        self.0 & other.0 != 0
    }
}

impl std::ops::BitOr for KeyspaceEvents {
    type Output = KeyspaceEvents;

    fn bitor(self, other: KeyspaceEvents) -> KeyspaceEvents {
        KeyspaceEvents(self.0 | other.0)
    }
}

impl Value for KeyspaceEvents {
    fn set(&mut self, _: Form, args: &[Vec<u8>], _: Source) -> Result<(), Reason> {
        let mut events = KeyspaceEvents::NONE;
        for &letter in only_arg(args)? {
            let class = match letter {
                b'A' => Some(Self::ALL),
                _ => Self::LETTERS.iter().find(|(known, _)| *known == letter).map(|(_, class)| *class),
            };
            events = events | class.ok_or("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")?;
        }
        *self = events;
        Ok(())
    }

    fn show(&self, _: Form) -> Vec<u8> {
        let mut letters = Vec::new();
        let all = self.contains(Self::ALL);
        if all {
            letters.push(b'A');
        }
        // Beside the A, neither what it covers nor `n` is shown: the latter is how 7.2 prints it.
        let hidden = if all { Self::ALL | Self::NEW } else { Self::NONE };
        for (letter, class) in Self::LETTERS {
            if self.contains(class) && !hidden.contains(class) {
                letters.push(letter);
            }
        }
        letters
    }

    fn lines(&self, form: Form, default: &[u8]) -> Lines {
        let letters = self.show(form);
        let mut args = Vec::new();
        line::push_quoted(&mut args, &letters);
        vec![RewrittenLine { args, forced: letters != default }]
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterAddress {
    pub host: String,
    pub port: u16,
}

/// Whose replica this server is; `None` for a master. The server writes every change of role here (REPLICAOF, a
/// failover), so that CONFIG GET and CONFIG REWRITE tell the role as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReplicaOf(pub Option<MasterAddress>);

impl Value for ReplicaOf {
    fn set(&mut self, _: Form, args: &[Vec<u8>], _: Source) -> Result<(), Reason> {
        let [host, port] = args else { return Err("wrong number of arguments".into()) };
        if host.eq_ignore_ascii_case(b"no") && port.eq_ignore_ascii_case(b"one") {
            self.0 = None;
            return Ok(());
        }
        let port = line::lenient_integer(port, 10).and_then(|port| u16::try_from(port).ok());
        let port = port.ok_or("Invalid master port")?;
        self.0 = Some(MasterAddress { host: String::from_utf8_lossy(host).into_owned(), port });
        Ok(())
    }

    fn show(&self, _: Form) -> Vec<u8> {
        match &self.0 {
            Some(master) => format!("{} {}", master.host, master.port).into_bytes(),
            None => Vec::new(),
        }
    }

    fn lines(&self, form: Form, _: &[u8]) -> Lines {
        match self.0 {
            Some(_) => vec![RewrittenLine { args: self.show(form), forced: true }],
            None => Vec::new(),
        }
    }
}

/// The working directory, always absolute. Setting it checks that it can be entered; entering it is the caller's
/// part. Relative names (another `dir`, an `include`, the log file) are meant from here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dir(PathBuf);

impl Default for Dir {
    fn default() -> Self {
        Dir(std::env::current_dir().unwrap_or_default())
    }
}

impl Deref for Dir {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Value for Dir {
    fn set(&mut self, _: Form, args: &[Vec<u8>], _: Source) -> Result<(), Reason> {
        let dir = Path::new(OsStr::from_bytes(only_arg(args)?));
        if dir.as_os_str().is_empty() {
            return Err(Errno::ENOENT.desc().into());
        }
        let dir = self.0.join(dir).canonicalize().map_err(|error| strerror(&error))?;
        if !dir.is_dir() {
            return Err(Errno::ENOTDIR.desc().into());
        }
        nix::unistd::access(&dir, nix::unistd::AccessFlags::X_OK).map_err(|errno| errno.desc())?;
        self.0 = dir;
        Ok(())
    }

    fn show(&self, _: Form) -> Vec<u8> {
        self.0.clone().into_os_string().into_vec()
    }

    fn lines(&self, form: Form, _: &[u8]) -> Lines {
        let mut args = Vec::new();
        line::push_quoted(&mut args, &self.show(form));
        vec![RewrittenLine { args, forced: true }]
    }
}

/// What the system says of an error, without what the standard library adds to it.
pub(super) fn strerror(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(code) => Errno::from_raw(code).desc().to_string(),
        None => error.to_string(),
    }
}

/// How SIGINT or SIGTERM shuts down; all false is the default way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShutdownOnSignal {
    pub save: bool,
    pub nosave: bool,
    pub now: bool,
    pub force: bool,
}

impl Value for ShutdownOnSignal {
    fn set(&mut self, _: Form, args: &[Vec<u8>], _: Source) -> Result<(), Reason> {
        const WORDS: [&str; 5] = ["default", "save", "nosave", "now", "force"];
        let mut way = ShutdownOnSignal::default();
        if args.is_empty() {
            return Err(not_one_of(WORDS.into_iter()));
        }
        for arg in args {
            match arg.to_ascii_lowercase().as_slice() {
                b"default" => {}
                b"save" => way.save = true,
                b"nosave" => way.nosave = true,
                b"now" => way.now = true,
                b"force" => way.force = true,
                _ => return Err(not_one_of(WORDS.into_iter())),
            }
        }
        if way.save && way.nosave {
            return Err("shutdown options SAVE and NOSAVE can't be used simultaneously".into());
        }
        *self = way;
        Ok(())
    }

    fn show(&self, _: Form) -> Vec<u8> {
        let arguments =
            [(self.save, "save"), (self.nosave, "nosave"), (self.now, "now"), (self.force, "force")];
        let set: Vec<&str> =
            arguments.into_iter().filter(|(set, _)| *set).map(|(_, argument)| argument).collect();
        if set.is_empty() { b"default".to_vec() } else { set.join(" ").into_bytes() }
    }
}

/// The percentiles of command latency that INFO shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Percentiles(Vec<f64>);

impl Default for Percentiles {
    fn default() -> Self {
        Percentiles(vec![50.0, 99.0, 99.9])
    }
}

impl Deref for Percentiles {
    type Target = [f64];

    fn deref(&self) -> &[f64] {
        &self.0
    }
}

impl Value for Percentiles {
    fn set(&mut self, _: Form, args: &[Vec<u8>], _: Source) -> Result<(), Reason> {
        let args = if matches!(args, [only] if only.is_empty()) { &[] } else { args };
        let mut percentiles = Vec::new();
        for arg in args {
            let percentile = std::str::from_utf8(arg).ok().and_then(|arg| arg.parse::<f64>().ok());
            let percentile = percentile
                .filter(|percentile| !percentile.is_nan())
                .ok_or("Invalid latency-tracking-info-percentiles parameters")?;
            if !(0.0..=100.0).contains(&percentile) {
                return Err(
                    "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]".into()
                );
            }
            percentiles.push(percentile);
        }
        self.0 = percentiles;
        Ok(())
    }

    fn show(&self, _: Form) -> Vec<u8> {
        join(self.0.iter().map(|percentile| {
            let text = format!("{percentile:.6}");
            text.trim_end_matches('0').trim_end_matches('.').to_string()
        }))
    }

    fn lines(&self, form: Form, _: &[u8]) -> Lines {
        let args = if self.0.is_empty() { b"\"\"".to_vec() } else { self.show(form) };
        vec![RewrittenLine { args, forced: true }]
    }
}

fn join(arguments: impl Iterator<Item = String>) -> Vec<u8> {
    arguments.collect::<Vec<_>>().join(" ").into_bytes()
}
