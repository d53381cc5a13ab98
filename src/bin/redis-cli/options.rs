//! The command line: options up to the first word that is none, which begins the command. Its grammar is older than
//! any argument parser (`-h` is the host, `-x` has no value, `-D ""` is fine, the command's own words are never
//! options), so it has a small table of its own: one row per option. What is not in the table is refused.

use crate::connection::Address;
use crate::format::{Output, Style};
use crate::session::Resp3;
use crate::url;
use crate::words::{leading_double, leading_int, unquote};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

/// What the program is to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Task {
    /// Run the command of the command line, or read commands when there is none.
    Commands,
    Scan,
    Stat,
    Latency {
        history: bool,
    },
    /// Run the script in a file; the words of the command are its keys and, behind a comma, its arguments.
    Eval(PathBuf),
    /// The spectrum of the times of PING.
    LatencyDist,
    /// How long this machine lets a busy program wait, measured for so many seconds. No server is needed.
    IntrinsicLatency {
        seconds: i64,
    },
    /// Write and read so many keys, some far more often than others.
    LruTest {
        keys: i64,
    },
    Pipe,
    /// Fetch a dump: of everything, or of the functions alone.
    Rdb {
        path: PathBuf,
        functions_only: bool,
    },
    Replica,
    /// Look for the biggest keys, by elements or by memory.
    BigKeys {
        memory: bool,
    },
    /// Look for the keys that are asked for most.
    HotKeys,
    /// Print the hint for a line, or check the hints of a whole file of lines: for tests.
    Hint(Vec<u8>),
    HintFile(PathBuf),
    /// Print what is known of the commands, in the form of our own table: for tests, and for that table.
    Table,
}

#[derive(Debug, Clone)]
pub struct Options {
    pub host: String,
    pub port: i64,
    pub socket: Option<PathBuf>,
    pub user: Option<Vec<u8>>,
    pub password: Option<Vec<u8>>,
    pub ask_password: bool,
    pub auth_warning: bool,
    pub db: i64,
    pub repeat: i64,
    pub interval: Duration,
    pub timeout: Option<Duration>,
    pub last_arg_from_stdin: bool,
    /// The argument that stands for what standard input has.
    pub stdin_tag: Option<Vec<u8>>,
    pub quoted_input: bool,
    pub exit_on_error: bool,
    pub resp2: bool,
    pub resp3: Resp3,
    pub show_pushes: bool,
    /// Follow the redirections of a cluster.
    pub cluster: bool,
    /// Without colours, in greys.
    pub mono: bool,
    pub style: Style,
    pub verbose: bool,
    pub task: Task,
    pub pattern: Option<Vec<u8>>,
    pub key_type: Option<Vec<u8>>,
    pub count: i64,
    pub pipe_timeout_s: i64,
    pub memory_samples: i64,
}

/// Why there are no options to work with.
#[derive(Debug, PartialEq)]
pub enum Ending {
    Help,
    Version,
    Wrong(String),
}

enum Row {
    Flag(&'static str, fn(&mut Options)),
    Value(&'static str, fn(&mut Options, &[u8]) -> Result<(), String>),
}

use Row::{Flag, Value};

const TABLE: &[Row] = &[
    Value("-h", |options, value| {
        options.host = text(value);
        Ok(())
    }),
    Value("-p", |options, value| options.set_port(leading_int(value))),
    Value("-s", |options, value| {
        options.socket = Some(path(value));
        Ok(())
    }),
    Value("-a", |options, value| {
        options.password = Some(value.to_vec());
        Ok(())
    }),
    Value("--pass", |options, value| {
        options.password = Some(value.to_vec());
        Ok(())
    }),
    Value("--user", |options, value| {
        options.user = Some(value.to_vec());
        Ok(())
    }),
    Flag("--askpass", |options| options.ask_password = true),
    Flag("--no-auth-warning", |options| options.auth_warning = false),
    Value("-u", |options, value| options.set_url(value)),
    Value("-n", |options, value| {
        options.db = leading_int(value);
        Ok(())
    }),
    Value("-r", |options, value| {
        options.repeat = leading_int(value);
        Ok(())
    }),
    Value("-i", |options, value| {
        options.interval = seconds(value);
        Ok(())
    }),
    Value("-t", |options, value| {
        options.timeout = Some(seconds(value)).filter(|timeout| !timeout.is_zero());
        Ok(())
    }),
    Flag("-2", |options| options.resp2 = true),
    Flag("-3", |options| options.resp3 = Resp3::Required),
    Flag("-x", |options| options.last_arg_from_stdin = true),
    Value("-X", |options, value| {
        options.stdin_tag = Some(value.to_vec());
        Ok(())
    }),
    Value("-d", |options, value| {
        options.style.element_delimiter = value.to_vec();
        Ok(())
    }),
    Value("-D", |options, value| {
        options.style.reply_delimiter = value.to_vec();
        Ok(())
    }),
    Flag("-e", |options| options.exit_on_error = true),
    Flag("--raw", |options| options.style.output = Output::Raw),
    Flag("--no-raw", |options| options.style.output = Output::Standard),
    Flag("--csv", |options| options.style.output = Output::Csv),
    Flag("--json", |options| options.set_json(Output::Json)),
    Flag("--quoted-json", |options| options.set_json(Output::QuotedJson)),
    Flag("--quoted-input", |options| options.quoted_input = true),
    Value("--show-pushes", |options, value| {
        match value.first() {
            Some(b'y' | b'Y') => options.show_pushes = true,
            Some(b'n' | b'N') => options.show_pushes = false,
            _ => {
                let value = text(value);
                eprintln!("Unknown --show-pushes value '{value}' (valid: '[y]es', '[n]o')");
            }
        }
        Ok(())
    }),
    Flag("--verbose", |options| options.verbose = true),
    Flag("--scan", |options| options.task = Task::Scan),
    Value("--pattern", |options, value| {
        options.pattern = Some(value.to_vec());
        Ok(())
    }),
    Value("--quoted-pattern", |options, value| {
        let pattern = unquote(value).ok_or("Invalid quoted string specified for --quoted-pattern.")?;
        options.pattern = Some(pattern);
        Ok(())
    }),
    Value("--type", |options, value| {
        options.key_type = Some(value.to_vec());
        Ok(())
    }),
    Value("--count", |options, value| {
        options.count = leading_int(value);
        Ok(())
    }),
    Flag("--stat", |options| options.task = Task::Stat),
    Flag("--latency", |options| options.task = Task::Latency { history: false }),
    Flag("--latency-history", |options| options.task = Task::Latency { history: true }),
    Value("--eval", |options, value| {
        options.task = Task::Eval(path(value));
        Ok(())
    }),
    Flag("--latency-dist", |options| options.task = Task::LatencyDist),
    Flag("--mono", |options| options.mono = true),
    Value("--intrinsic-latency", |options, value| {
        options.task = Task::IntrinsicLatency { seconds: leading_int(value) };
        Ok(())
    }),
    Value("--lru-test", |options, value| {
        let keys = leading_int(value);
        options.task = Task::LruTest { keys };
        if keys > 0 { Ok(()) } else { Err("--lru-test takes a number of keys, at least 1.".to_string()) }
    }),
    Flag("-c", |options| options.cluster = true),
    Flag("--pipe", |options| options.task = Task::Pipe),
    Value("--pipe-timeout", |options, value| {
        options.pipe_timeout_s = leading_int(value);
        Ok(())
    }),
    Value("--rdb", |options, value| options.set_dump(path(value), false)),
    Value("--functions-rdb", |options, value| options.set_dump(path(value), true)),
    Flag("--replica", |options| options.task = Task::Replica),
    Flag("--slave", |options| options.task = Task::Replica),
    Flag("--bigkeys", |options| options.task = Task::BigKeys { memory: false }),
    Flag("--hotkeys", |options| options.task = Task::HotKeys),
    Flag("--memkeys", |options| options.task = Task::BigKeys { memory: true }),
    Value("--memkeys-samples", |options, value| {
        options.task = Task::BigKeys { memory: true };
        options.memory_samples = leading_int(value);
        Ok(())
    }),
    Value("--test_hint", |options, value| {
        options.task = Task::Hint(value.to_vec());
        Ok(())
    }),
    Flag("--test_table", |options| options.task = Task::Table),
    Value("--test_hint_file", |options, value| {
        options.task = Task::HintFile(path(value));
        Ok(())
    }),
];

impl Options {
    /// Everything by default; how replies look depends on who reads them.
    fn new(stdout_is_tty: bool) -> Options {
        Options {
            host: "127.0.0.1".to_string(),
            port: 6379,
            socket: None,
            user: None,
            password: None,
            ask_password: false,
            auth_warning: true,
            db: 0,
            repeat: 1,
            interval: Duration::ZERO,
            timeout: None,
            last_arg_from_stdin: false,
            stdin_tag: None,
            quoted_input: false,
            exit_on_error: false,
            resp2: false,
            resp3: Resp3::No,
            show_pushes: stdout_is_tty,
            cluster: false,
            mono: false,
            style: Style {
                output: if stdout_is_tty { Output::Standard } else { Output::Raw },
                element_delimiter: b"\n".to_vec(),
                reply_delimiter: b"\n".to_vec(),
            },
            verbose: false,
            task: Task::Commands,
            pattern: None,
            key_type: None,
            count: 10,
            pipe_timeout_s: 30,
            memory_samples: 0,
        }
    }

    /// Reads the words after the program's name. Returns the options and the command.
    pub fn parse(args: &[Vec<u8>], stdout_is_tty: bool) -> Result<(Options, Vec<Vec<u8>>), Ending> {
        let mut options = Options::new(stdout_is_tty);
        let mut at = 0;
        while let Some(arg) = args.get(at) {
            let value = args.get(at + 1);
            at += 1;
            match arg.as_slice() {
                b"--help" => return Err(Ending::Help),
                b"-h" if value.is_none() => return Err(Ending::Help),
                b"-v" | b"--version" => return Err(Ending::Version),
                [b'-', ..] => {}
                // The first word that is no option begins the command.
                _ => {
                    at -= 1;
                    break;
                }
            }
            let row = TABLE.iter().find(|row| match row {
                Flag(name, _) => name.as_bytes() == arg,
                Value(name, _) => name.as_bytes() == arg && value.is_some(),
            });
            match (row, value) {
                (Some(Flag(_, set)), _) => set(&mut options),
                (Some(Value(_, set)), Some(value)) => {
                    set(&mut options, value).map_err(Ending::Wrong)?;
                    at += 1;
                }
                _ => match attached(arg) {
                    Some((set, value)) => set(&mut options, value).map_err(Ending::Wrong)?,
                    None => return Err(refusal(arg)),
                },
            }
        }
        options.settle()?;
        Ok((options, args[at..].to_vec()))
    }

    /// What only all options together tell.
    fn settle(&mut self) -> Result<(), Ending> {
        if self.resp2 && self.resp3 == Resp3::Required {
            return Err(Ending::Wrong("Options -2 and -3 are mutually exclusive.".to_string()));
        }
        if self.resp2 {
            self.resp3 = Resp3::No;
        }
        if self.last_arg_from_stdin && self.stdin_tag.is_some() {
            return Err(Ending::Wrong("Options -x and -X are mutually exclusive.".to_string()));
        }
        Ok(())
    }

    pub fn address(&self) -> Address {
        match &self.socket {
            Some(path) => Address::Unix(path.clone()),
            None => Address::Tcp { host: self.host.clone(), port: u16::try_from(self.port).unwrap_or(0) },
        }
    }

    fn set_port(&mut self, port: i64) -> Result<(), String> {
        self.port = port;
        match (0..=65535).contains(&port) {
            true => Ok(()),
            false => Err("Invalid server port.".to_string()),
        }
    }

    fn set_url(&mut self, value: &[u8]) -> Result<(), String> {
        let url = url::parse(value)?;
        self.user = url.user.or(self.user.take());
        self.password = url.password.or(self.password.take());
        self.host = url.host.unwrap_or_else(|| self.host.clone());
        self.db = url.db.unwrap_or(self.db);
        self.set_port(url.port.unwrap_or(self.port))
    }

    fn set_dump(&mut self, path: PathBuf, functions_only: bool) -> Result<(), String> {
        if let Task::Rdb { functions_only: before, .. } = self.task
            && before != functions_only
        {
            return Err("Option --functions-rdb and --rdb are mutually exclusive.".to_string());
        }
        self.task = Task::Rdb { path, functions_only };
        Ok(())
    }

    /// JSON shows RESP3's types best, but does not insist.
    fn set_json(&mut self, output: Output) {
        self.style.output = output;
        if self.resp3 == Resp3::No {
            self.resp3 = Resp3::Preferred;
        }
    }
}

type SetValue = fn(&mut Options, &[u8]) -> Result<(), String>;

/// A short option with its value in the same word, as in `-p63791`.
fn attached(arg: &[u8]) -> Option<(SetValue, &[u8])> {
    let (option, value) = arg.split_at_checked(2).filter(|(_, value)| !value.is_empty())?;
    TABLE.iter().find_map(|row| match row {
        Value(name, set) if name.as_bytes() == option => Some((*set, value)),
        _ => None,
    })
}

/// Options of other redis-clis that this one does not have, with those that continue them behind a dash, and why.
const MISSING: &[(&str, &str)] = &[
    ("--ldb", "the debugger of scripts is not built"),
    ("--cluster", "the manager of clusters is not built; -c follows a cluster's redirections"),
    ("--tls", "TLS is not built"),
    ("--sni", "TLS is not built"),
    ("--cacert", "TLS is not built"),
    ("--cert", "TLS is not built"),
    ("--key", "TLS is not built"),
    ("--insecure", "TLS is not built"),
];

fn refusal(arg: &[u8]) -> Ending {
    let arg = text(arg);
    let belongs = |option: &str| {
        arg.strip_prefix(option).is_some_and(|rest| matches!(rest.as_bytes(), [] | [b'-', ..]))
    };
    Ending::Wrong(match MISSING.iter().find(|(option, _)| belongs(option)) {
        Some((_, why)) => format!("The option {arg} is not there yet: {why}."),
        None => format!("Unrecognized option or bad number of args for: '{arg}'"),
    })
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

fn path(value: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(value.to_vec()))
}

fn seconds(value: &[u8]) -> Duration {
    Duration::try_from_secs_f64(leading_double(value)).unwrap_or(Duration::ZERO)
}

/// The program's own arguments, as the bytes that the shell gave.
pub fn program_args() -> Vec<Vec<u8>> {
    std::env::args_os().skip(1).map(|arg| arg.as_os_str().as_bytes().to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<(Options, Vec<String>), Ending> {
        let args: Vec<Vec<u8>> =
            line.split(' ').filter(|word| !word.is_empty()).map(|word| word.into()).collect();
        let (options, command) = Options::parse(&args, true)?;
        Ok((options, command.iter().map(|word| text(word)).collect()))
    }

    fn wrong(line: &str) -> String {
        match parse(line) {
            Err(Ending::Wrong(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_begins_at_the_first_word_that_is_no_option() {
        let (options, command) = parse("-h host -p 7 -n 3 -x --csv set -p 9 --raw").unwrap();
        assert_eq!(options.address(), Address::Tcp { host: "host".into(), port: 7 });
        assert_eq!((options.db, options.last_arg_from_stdin), (3, true));
        assert_eq!(options.style.output, Output::Csv);
        assert_eq!(command, ["set", "-p", "9", "--raw"]);
    }

    #[test]
    fn a_short_option_may_have_its_value_in_the_same_word() {
        let (options, command) = parse("-p63791 -hexample -n2 -c get -p1").unwrap();
        assert_eq!(options.address(), Address::Tcp { host: "example".into(), port: 63791 });
        assert_eq!((options.db, options.cluster), (2, true));
        assert_eq!(command, ["get", "-p1"]);
    }

    #[test]
    fn a_later_option_wins_over_the_url_before_it() {
        let (options, _) = parse("-u redis://u:p@h:1/2 -p 5").unwrap();
        assert_eq!((options.host.as_str(), options.port, options.db), ("h", 5, 2));
        assert_eq!(options.user.as_deref(), Some(&b"u"[..]));
    }

    #[test]
    fn wrong_lines_are_refused_in_the_known_words() {
        assert_eq!(wrong("--foo"), "Unrecognized option or bad number of args for: '--foo'");
        assert_eq!(wrong("-"), "Unrecognized option or bad number of args for: '-'");
        assert_eq!(wrong("-p"), "Unrecognized option or bad number of args for: '-p'");
        assert_eq!(
            wrong("--ldb"),
            "The option --ldb is not there yet: the debugger of scripts is not built."
        );
        assert_eq!(
            wrong("--cluster-yes"),
            "The option --cluster-yes is not there yet: the manager of clusters is not built; -c follows a cluster's redirections."
        );
        assert_eq!(wrong("--tls -p 1"), "The option --tls is not there yet: TLS is not built.");
        assert_eq!(wrong("--tls-ciphers x"), "The option --tls-ciphers is not there yet: TLS is not built.");
        assert_eq!(wrong("--keystats"), "Unrecognized option or bad number of args for: '--keystats'");
        assert_eq!(wrong("--lru-test 0"), "--lru-test takes a number of keys, at least 1.");
        assert_eq!(wrong("-p 70000"), "Invalid server port.");
        assert_eq!(wrong("-2 -3"), "Options -2 and -3 are mutually exclusive.");
        assert_eq!(wrong("-x -X tag"), "Options -x and -X are mutually exclusive.");
        assert_eq!(wrong("-u http://h"), "Invalid URI scheme");
        assert_eq!(
            wrong("--rdb a --functions-rdb b"),
            "Option --functions-rdb and --rdb are mutually exclusive."
        );
        assert_eq!(wrong("-p70000"), "Invalid server port.");
        assert_eq!(wrong("-q1"), "Unrecognized option or bad number of args for: '-q1'");
        assert_eq!(parse("-h").unwrap_err(), Ending::Help);
        assert_eq!(parse("--version").unwrap_err(), Ending::Version);
    }

    #[test]
    fn json_prefers_resp3_unless_told_otherwise() {
        assert_eq!(parse("--json").unwrap().0.resp3, Resp3::Preferred);
        assert_eq!(parse("-3 --json").unwrap().0.resp3, Resp3::Required);
        assert_eq!(parse("--json -2").unwrap().0.resp3, Resp3::No);
    }
}
