//! What a directive's value can be: yes or no, a number, a text, one word of several. Each type parses the arguments
//! of a line, shows itself as CONFIG GET does, and tells the lines that CONFIG REWRITE writes for it. A value that
//! refuses its arguments stays as it was. Values of several words stand in `compound.rs`.

use super::line;
use std::ffi::OsStr;
use std::fmt;
use std::ops::Deref;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Why a value was refused, in Redis's words.
pub type Reason = String;

/// Where the arguments come from. Only `save` cares: lines of a file add up, a CONFIG SET replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    File,
    ConfigSet,
}

/// How a row reads and prints a value, where the type alone does not say it.
#[derive(Clone, Copy)]
pub enum Form {
    /// The type says it all.
    Plain,
    Integer(i128, i128),
    Octal(i128, i128),
    /// Bytes, with units.
    Memory(i128, i128),
    /// Bytes, or `n%`, which is stored as the negative number.
    MemoryOrPercent(i128, i128),
    /// A text that may be empty.
    Text,
    /// A text for which empty means that it is not set: a rewritten file then does not mention it.
    OptionalText,
}

/// What CONFIG REWRITE does with a directive: these lines' arguments, in this order. A line that is not forced only
/// replaces one that is there already; no lines at all removes those that are there.
pub type Lines = Vec<RewrittenLine>;

pub struct RewrittenLine {
    pub args: Vec<u8>,
    pub forced: bool,
}

pub trait Value {
    fn set(&mut self, form: Form, args: &[Vec<u8>], source: Source) -> Result<(), Reason>;

    /// The text of CONFIG GET.
    fn show(&self, form: Form) -> Vec<u8>;

    /// `default` is the same directive's text as a fresh server shows it.
    fn lines(&self, form: Form, default: &[u8]) -> Lines {
        let args = self.show(form);
        vec![RewrittenLine { forced: args != default, args }]
    }
}

impl Value for bool {
    fn set(&mut self, _: Form, args: &[Vec<u8>], _: Source) -> Result<(), Reason> {
        *self = match only_arg(args)?.to_ascii_lowercase().as_slice() {
            b"yes" => true,
            b"no" => false,
            _ => return Err("argument must be 'yes' or 'no'".into()),
        };
        Ok(())
    }

    fn show(&self, _: Form) -> Vec<u8> {
        if *self { b"yes".to_vec() } else { b"no".to_vec() }
    }
}

macro_rules! integer_values {
    ($($int:ty),*) => {$(
        impl Value for $int {
            fn set(&mut self, form: Form, args: &[Vec<u8>], _: Source) -> Result<(), Reason> {
                let number = read_number(form, only_arg(args)?)?;
                *self = <$int>::try_from(number).expect("the bounds of the row fit its field");
                Ok(())
            }

            fn show(&self, form: Form) -> Vec<u8> {
                match form {
                    Form::Octal(..) => format!("{:o}", self).into_bytes(),
                    Form::MemoryOrPercent(..) if i128::from(*self) < 0 => {
                        format!("{}%", -i128::from(*self)).into_bytes()
                    }
                    _ => self.to_string().into_bytes(),
                }
            }

            fn lines(&self, form: Form, default: &[u8]) -> Lines {
                let forced = self.show(form) != default;
                let args = match (form, u64::try_from(*self)) {
                    (Form::Memory(..) | Form::MemoryOrPercent(..), Ok(bytes)) => {
                        line::format_memory(bytes).into_bytes()
                    }
                    _ => self.show(form),
                };
                vec![RewrittenLine { args, forced }]
            }
        }
    )*};
}
integer_values!(u16, u32, i32, u64, i64);

fn read_number(form: Form, text: &[u8]) -> Result<i128, Reason> {
    match form {
        Form::Integer(low, high) => {
            let number = line::integer(text).ok_or("argument couldn't be parsed into an integer")?;
            within(number.into(), low, high)
        }
        Form::Octal(low, high) => {
            let number =
                line::lenient_integer(text, 8).ok_or("argument couldn't be parsed as an octal number")?;
            let number = i128::from(number);
            if number < low || number > high {
                return Err(format!("argument must be between {low:o} and {high:o} inclusive"));
            }
            Ok(number)
        }
        Form::Memory(low, high) => {
            let bytes = line::memory(text).ok_or("argument must be a memory value")?;
            within(bytes.into(), low, high)
        }
        Form::MemoryOrPercent(low, high) => {
            let too_high = || format!("percentage argument must be less or equal to {}", -low);
            if let Some(bytes) = line::memory(text) {
                // More bytes than there can be are taken for a percentage: so does Redis report them.
                return Some(i128::from(bytes)).filter(|&bytes| bytes <= high).ok_or_else(too_high);
            }
            let percent = text.strip_suffix(b"%").and_then(line::integer).filter(|&percent| percent >= 0);
            let percent = i128::from(percent.ok_or("argument must be a memory or percent value")?);
            Some(-percent).filter(|&stored| stored >= low).ok_or_else(too_high)
        }
        Form::Plain | Form::Text | Form::OptionalText => unreachable!("a number's row says its bounds"),
    }
}

fn within(number: i128, low: i128, high: i128) -> Result<i128, Reason> {
    if number < low || number > high {
        return Err(format!("argument must be between {low} and {high} inclusive"));
    }
    Ok(number)
}

/// The one argument of a directive that takes one.
pub(super) fn only_arg(args: &[Vec<u8>]) -> Result<&[u8], Reason> {
    match args {
        [arg] => Ok(arg),
        _ => Err("wrong number of arguments".into()),
    }
}

/// A text of arbitrary bytes: a password, a file name, an address. Empty where it is not set.
#[derive(Clone, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct Text(Vec<u8>);

impl Text {
    pub fn is_set(&self) -> bool {
        !self.0.is_empty()
    }

    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }
}

impl Deref for Text {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Text {
        Text(text.as_bytes().to_vec())
    }
}

impl From<Vec<u8>> for Text {
    fn from(bytes: Vec<u8>) -> Text {
        Text(bytes)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl Value for Text {
    fn set(&mut self, _: Form, args: &[Vec<u8>], _: Source) -> Result<(), Reason> {
        self.0 = only_arg(args)?.to_vec();
        Ok(())
    }

    fn show(&self, _: Form) -> Vec<u8> {
        self.0.clone()
    }

    fn lines(&self, form: Form, default: &[u8]) -> Lines {
        if matches!(form, Form::OptionalText) && self.0.is_empty() {
            return Vec::new();
        }
        let mut args = Vec::new();
        line::push_quoted(&mut args, &self.0);
        vec![RewrittenLine { args, forced: self.0 != default }]
    }
}

/// Declares an enum whose variants are the words a directive takes, in the order in which errors list them. A second
/// word for the same variant stands behind a `|`; it is understood, and the first one shown.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal $(| $other:literal)*),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($variant),* }

        impl $name {
            const WORDS: &'static [(&'static str, $name)] =
                &[$(($word, $name::$variant), $(($other, $name::$variant),)*)*];

            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word),* }
            }
        }

        impl Value for $name {
            fn set(&mut self, _: Form, args: &[Vec<u8>], _: Source) -> Result<(), Reason> {
                let named = match args {
                    [arg] => Self::WORDS.iter().find(|(word, _)| arg.eq_ignore_ascii_case(word.as_bytes())),
                    _ => None,
                };
                *self = named.ok_or_else(|| not_one_of(Self::WORDS.iter().map(|(word, _)| *word)))?.1;
                Ok(())
            }

            fn show(&self, _: Form) -> Vec<u8> {
                self.as_str().as_bytes().to_vec()
            }
        }
    };
}

pub(super) fn not_one_of(words: impl Iterator<Item = &'static str>) -> Reason {
    format!("argument(s) must be one of the following: {}", words.collect::<Vec<_>>().join(", "))
}

words! {
    /// From the most talkative to silence; the order is that of severity.
    LogLevel { Debug = "debug", Verbose = "verbose", Notice = "notice", Warning = "warning", Nothing = "nothing" }
}
words! { LogFormat { Legacy = "legacy", Logfmt = "logfmt", Json = "json" } }
words! { LogTimestampFormat { Legacy = "legacy", Iso8601 = "iso8601", Milliseconds = "milliseconds" } }
words! { RdbVersionCheck { Strict = "strict", Relaxed = "relaxed" } }
words! { SyslogFacility {
    User = "user", Local0 = "local0", Local1 = "local1", Local2 = "local2", Local3 = "local3", Local4 = "local4",
    Local5 = "local5", Local6 = "local6", Local7 = "local7",
} }
words! { Supervised { Upstart = "upstart", Systemd = "systemd", Auto = "auto", No = "no" } }
words! { AppendFsync { Everysec = "everysec", Always = "always", No = "no" } }
words! {
    ReplDisklessLoad {
        Disabled = "disabled", OnEmptyDb = "on-empty-db", Swapdb = "swapdb", FlushBeforeLoad = "flush-before-load",
    }
}
words! { TlsAuthClients { No = "no", Yes = "yes", Optional = "optional" } }
words! { OomScoreAdj { No = "no", Relative = "yes" | "relative", Absolute = "absolute" } }
words! { AclPubsubDefault { AllChannels = "allchannels", ResetChannels = "resetchannels" } }
words! { SanitizeDumpPayload { No = "no", Yes = "yes", Clients = "clients" } }
words! {
    /// Who may use a dangerous command or directive.
    ProtectedAction { No = "no", Yes = "yes", Local = "local" }
}
words! { PreferredEndpointType { Ip = "ip", Hostname = "hostname", Unknown = "unknown-endpoint" } }
words! { PropagationErrorBehavior {
    Ignore = "ignore", Panic = "panic", PanicOnReplicas = "panic-on-replicas",
} }
words! { OnUnknownCommand { Stop = "stop", Ignore = "ignore" } }
words! { MaxmemoryPolicy {
    VolatileLru = "volatile-lru", VolatileLfu = "volatile-lfu", VolatileRandom = "volatile-random",
    VolatileTtl = "volatile-ttl", AllkeysLru = "allkeys-lru", AllkeysLfu = "allkeys-lfu",
    AllkeysRandom = "allkeys-random", NoEviction = "noeviction",
} }

impl MaxmemoryPolicy {
    /// Whether which key goes depends on how keys were used.
    pub fn is_by_use(self) -> bool {
        use MaxmemoryPolicy::{AllkeysLfu, AllkeysLru, VolatileLfu, VolatileLru};
        matches!(self, AllkeysLfu | AllkeysLru | VolatileLfu | VolatileLru)
    }
}

impl ProtectedAction {
    /// Whether a client may, given whether it comes over the loopback interface or the unix socket.
    pub fn allows(self, client_is_local: bool) -> bool {
        match self {
            ProtectedAction::No => false,
            ProtectedAction::Yes => true,
            ProtectedAction::Local => client_is_local,
        }
    }
}
