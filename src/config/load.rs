//! Reading the configuration at the start: the command line, the file it names, standard input, and what they
//! include. All of it is one text of lines, in that order of precedence: file, standard input, then the options of
//! the command line written as lines, so that the last word wins. The first line that is wrong ends it; the caller
//! prints the error and exits.

use super::compound::strerror;
use super::directive::{lookup, rule};
use super::line;
use super::newer;
use super::table::Config;
use super::value::{Reason, Source};
use std::ffi::{CString, OsStr, OsString};
use std::fmt;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

/// What the command line says: a file first, then `--directive value …`, and `-` first or last for standard input.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Invocation {
    pub file: Option<PathBuf>,
    pub stdin: bool,
    /// The options, written as configuration lines.
    pub options: Vec<u8>,
}

/// A `rename-command` line: the server, which knows the commands, applies it, and refuses it by `fatal`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenameCommand {
    pub old: Vec<u8>,
    /// Empty to take the command away.
    pub new: Vec<u8>,
    at: Place,
}

/// A `user` line: the server, which knows what rules mean, obeys it, or refuses it by `fatal`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserLine {
    /// The name and the rules.
    pub arguments: Vec<Vec<u8>>,
    at: Place,
}

/// A line of the configuration, for error texts.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    number: usize,
    line: String,
}

/// Why the server cannot start with this configuration. Its text is complete: print it and exit with status 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FatalConfig {
    /// A line is wrong, or the whole of them where no line is named. Goes to standard error.
    Refused(Refused),
    /// A file cannot be opened. Goes to the log, as a warning.
    CannotOpen { path: String, reason: Reason },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    at: Option<Place>,
    pub reason: Reason,
}

impl fmt::Display for FatalConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FatalConfig::Refused(Refused { at, reason }) => {
                writeln!(f, "\n*** FATAL CONFIG FILE ERROR (Redis {}) ***", super::REDIS_VERSION)?;
                if let Some(Place { number, line }) = at {
                    writeln!(f, "Reading the configuration file, at line {number}\n>>> '{line}'")?;
                }
                writeln!(f, "{reason}")
            }
            FatalConfig::CannotOpen { path, reason } => {
                write!(f, "Fatal error, can't open config file '{path}': {reason}")
            }
        }
    }
}

impl std::error::Error for FatalConfig {}

impl RenameCommand {
    /// The error for a line that the table of commands refuses.
    pub fn fatal(&self, reason: &str) -> FatalConfig {
        FatalConfig::Refused(Refused { at: Some(self.at.clone()), reason: reason.into() })
    }
}

impl UserLine {
    /// The error for a line that is no user.
    pub fn fatal(&self, reason: &str) -> FatalConfig {
        FatalConfig::Refused(Refused { at: Some(self.at.clone()), reason: reason.into() })
    }
}

impl Invocation {
    /// Reads the arguments behind the program's name. Nothing is refused here: options become lines, and lines are
    /// judged when they are loaded.
    ///
    /// `--name` begins a line and what follows are its arguments, the first of them even if it begins with `--`
    /// itself: `--requirepass --secret` sets a password. Only `--save` may go without, which clears the save points.
    pub fn parse(args: &[OsString]) -> Invocation {
        let mut invocation = Invocation::default();
        let mut args: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
        if args.first().is_some_and(|first| !first.starts_with(b"-")) {
            invocation.file = Some(absolute(Path::new(OsStr::from_bytes(args.remove(0)))));
        }
        // With a file before it, a "-" counts as first only if nothing else stood first.
        let stdin_may_lead = invocation.file.is_none();
        let options = &mut invocation.options;
        let mut has_argument = true;
        for (at, &arg) in args.iter().enumerate() {
            let last = at + 1 == args.len();
            if arg == b"-" && ((at == 0 && stdin_may_lead) || last) {
                invocation.stdin = true;
            } else if let Some(name) = arg.strip_prefix(b"--").filter(|_| has_argument) {
                if !options.is_empty() {
                    options.push(b'\n');
                }
                options.extend(name);
                options.push(b' ');
                // "--port 7000" as one argument has its value with it.
                has_argument = line::split_args(arg).is_none_or(|arguments| arguments.len() != 1);
                if !has_argument
                    && arg.eq_ignore_ascii_case(b"--save")
                    && args.get(at + 1).is_none_or(|next| next.starts_with(b"--"))
                {
                    options.extend(b"\"\"");
                    has_argument = true;
                }
            } else {
                line::push_quoted(options, arg);
                options.push(b' ');
                has_argument = true;
            }
        }
        invocation
    }

    /// Judges every line of the file, and of those that it includes.
    pub fn check(&self) -> Result<Vec<Found>, FatalConfig> {
        let mut config = Config { config_file: self.file.clone(), ..Config::default() };
        let file = self.file.clone().unwrap_or_default();
        let text = read(&file, &file)?;
        let including = vec![file.canonicalize().unwrap_or(file)];
        let mut loader = Loader { config: &mut config, found: Some(Vec::new()), including };
        loader.load_text(&text)?;
        Ok(loader.found.unwrap_or_default())
    }

    /// Loads the configuration, which may read standard input.
    pub fn load(&self) -> Result<Config, FatalConfig> {
        self.load_with(&mut std::io::stdin())
    }

    /// Loads the configuration with something else for standard input.
    ///
    /// The caller enters `config.dir` next, before it opens any file that the configuration names.
    pub fn load_with(&self, stdin: &mut dyn Read) -> Result<Config, FatalConfig> {
        let mut config = Config { config_file: self.file.clone(), ..Config::default() };
        let mut text = Vec::new();
        if let Some(file) = &self.file {
            text = read(file, file)?;
        }
        if self.stdin {
            stdin.read_to_end(&mut text).map_err(|error| cannot_open(Path::new("-"), &error))?;
        }
        text.push(b'\n');
        text.extend(&self.options);

        let including = self.file.iter().filter_map(|file| file.canonicalize().ok()).collect();
        let mut loader = Loader { config: &mut config, found: None, including };
        loader.load_text(&text)?;

        if self.file.is_some() || self.stdin {
            config.save.clear_unless_explicit();
        }
        config.soften();
        check_logfile(&config)?;
        Ok(config)
    }
}

/// The log file must be writable now: later there would be no place left to complain.
fn check_logfile(config: &Config) -> Result<(), FatalConfig> {
    if !config.logfile.is_set() {
        return Ok(());
    }
    let path = config.dir.join(config.logfile.as_path());
    match std::fs::OpenOptions::new().append(true).create(true).open(path) {
        Ok(_) => Ok(()),
        Err(error) => {
            let reason = format!("Can't open the log file: {}", strerror(&error));
            Err(FatalConfig::Refused(Refused { at: None, reason }))
        }
    }
}

/// What `--check-config` has to say about a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub file: PathBuf,
    pub number: usize,
    pub line: String,
    /// The server would not start with it; else it would behave differently.
    pub refused: bool,
    pub why: String,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.refused { "refused" } else { "differs" };
        let Found { file, number, line, why, .. } = self;
        write!(f, "{}:{number}: {kind}: {line}\n    {why}", file.display())
    }
}

struct Loader<'a> {
    config: &'a mut Config,
    /// What is said of the lines, where all of them are to be judged.
    found: Option<Vec<Found>>,
    /// The files whose lines are being read, each included by the one before it.
    including: Vec<PathBuf>,
}

impl Loader<'_> {
    fn load_text(&mut self, text: &[u8]) -> Result<(), FatalConfig> {
        for (at, line) in text.split(|&byte| byte == b'\n').enumerate() {
            let line = trim(line);
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let place = || Place { number: at + 1, line: String::from_utf8_lossy(line).into_owned() };
            let refused = |reason| FatalConfig::Refused(Refused { at: Some(place()), reason });
            let judged = match line::split_args(line) {
                Some(arguments) => self.load_arguments(&arguments, &place),
                None => Err(refused("Unbalanced quotes in configuration line".into())),
            };
            match (judged, &self.found) {
                (Ok(()), _) => {}
                (Err(why), None) => return Err(why),
                (Err(FatalConfig::Refused(Refused { reason, .. })), Some(_)) => {
                    self.find(place(), true, reason);
                }
                (Err(why @ FatalConfig::CannotOpen { .. }), Some(_)) => {
                    self.find(place(), true, why.to_string())
                }
            }
        }
        Ok(())
    }

    fn find(&mut self, at: Place, refused: bool, why: String) {
        let file = self.including.last().cloned().unwrap_or_default();
        if let Some(found) = &mut self.found {
            found.push(Found { file, number: at.number, line: at.line, refused, why });
        }
    }

    /// Obeys one line.
    fn load_arguments(
        &mut self,
        arguments: &[Vec<u8>],
        place: &dyn Fn() -> Place,
    ) -> Result<(), FatalConfig> {
        let refused = |reason| FatalConfig::Refused(Refused { at: Some(place()), reason });
        let Some((name, args)) = arguments.split_first() else { return Ok(()) };
        let name = name.to_ascii_lowercase();
        if let Some(why) = newer::difference(&name, args).filter(|_| self.found.is_some()) {
            self.find(place(), false, why.to_owned());
            // What is refused is told as that alone.
            if load_line(self.config, &name, args).is_err()
                && let Some(found) = &mut self.found
            {
                found.pop();
            }
        }
        // These alone need more than the line and the configuration.
        match (name.as_slice(), args) {
            (b"include", [pattern]) => self.include(pattern).map_err(|error| match error {
                IncludeError::Circle => refused("This file includes itself".into()),
                IncludeError::Fatal(fatal) => fatal,
            })?,
            (b"rename-command", [old, new]) => {
                let (old, new) = (old.clone(), new.clone());
                self.config.rename_commands.push(RenameCommand { old, new, at: place() });
            }
            (b"user", [_, ..]) => {
                self.config.users.push(UserLine { arguments: args.to_vec(), at: place() });
            }
            _ => load_line(self.config, &name, args).map_err(refused)?,
        }
        Ok(())
    }

    /// A plain name must exist; a pattern may match nothing, so that an empty directory of snippets is no error.
    fn include(&mut self, pattern: &[u8]) -> Result<(), IncludeError> {
        let is_pattern = pattern.iter().any(|byte| b"*?[".contains(byte));
        let paths = match is_pattern {
            true => glob(&self.config.dir, pattern),
            false => vec![PathBuf::from(OsStr::from_bytes(pattern))],
        };
        for path in paths {
            let from_dir = self.config.dir.join(&path);
            let text = read(&from_dir, &path).map_err(IncludeError::Fatal)?;
            let file = from_dir.canonicalize().unwrap_or(from_dir);
            if self.including.contains(&file) {
                return Err(IncludeError::Circle);
            }
            self.including.push(file);
            self.load_text(&text).map_err(IncludeError::Fatal)?;
            self.including.pop();
        }
        Ok(())
    }
}

enum IncludeError {
    Circle,
    Fatal(FatalConfig),
}

/// Obeys one line that concerns the configuration only.
fn load_line(config: &mut Config, name: &[u8], args: &[Vec<u8>]) -> Result<(), Reason> {
    if let Some((directive, _)) = lookup(name) {
        let multi_arg = directive.has(rule::MULTI_ARG);
        return match args {
            // Several arguments may come as one quoted argument. An empty one stays, for it clears.
            [only] if multi_arg && !only.is_empty() => {
                let arguments = line::split_args(only).ok_or("Unbalanced quotes in configuration line")?;
                directive.set(config, &arguments, Source::File)
            }
            [_] => directive.set(config, args, Source::File),
            _ if multi_arg => directive.set(config, args, Source::File),
            _ => Err("wrong number of arguments".into()),
        };
    }
    match (name, args) {
        // Directives of the past that have had no meaning for long, and stand in many a file.
        (b"list-max-ziplist-entries" | b"list-max-ziplist-value" | b"lua-replicate-commands", [_]) => Ok(()),
        (b"loadmodule", [_, ..]) => Err(not_supported(name, args, "modules are not built")),
        (b"sentinel", []) => {
            Err("'sentinel' is not supported yet by redis-rs: sentinel mode is not built".into())
        }
        (b"sentinel", _) => Err("sentinel directive while not in sentinel mode".into()),
        _ if names_module_directive(name) => match args {
            [] => Err("Module config specified without value".into()),
            _ => Err(not_supported(name, args, "modules are not built")),
        },
        _ => newer::judge(name, args)
            .unwrap_or_else(|| Err("Bad directive or wrong number of arguments".into())),
    }
}

/// Whether it is of the form `module.directive`. An address that got stuck to a name, as in `slaveof=127.0.0.1`, is not.
fn names_module_directive(name: &[u8]) -> bool {
    let is_word = |part: &[u8]| {
        part.first().is_some_and(u8::is_ascii_alphabetic)
            && part.iter().all(|&byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let mut parts = name.splitn(2, |&byte| byte == b'.');
    matches!((parts.next(), parts.next()), (Some(module), Some(directive)) if is_word(module) && is_word(directive))
}

pub(super) fn not_supported(name: &[u8], args: &[Vec<u8>], because: &str) -> Reason {
    let given = [name, &args.join(&b' ')].join(&b' ');
    format!("'{}' is not supported yet by redis-rs: {because}", String::from_utf8_lossy(&given))
}

fn read(path: &Path, named: &Path) -> Result<Vec<u8>, FatalConfig> {
    std::fs::read(path).map_err(|error| cannot_open(named, &error))
}

fn cannot_open(path: &Path, error: &std::io::Error) -> FatalConfig {
    FatalConfig::CannotOpen { path: path.display().to_string(), reason: strerror(error) }
}

fn trim(line: &[u8]) -> &[u8] {
    let blank = |byte: &u8| b" \t\r\n".contains(byte);
    let start = line.iter().position(|byte| !blank(byte)).unwrap_or(line.len());
    let end = line.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
    &line[start..end]
}

/// A path from the root, with `.` and `..` worked out by the text alone: the file may come to exist later.
fn absolute(path: &Path) -> PathBuf {
    let mut absolute = std::env::current_dir().unwrap_or_default();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                absolute.pop();
            }
            other => absolute.push(other),
        }
    }
    absolute
}

/// The files that match a shell pattern, sorted, where a relative pattern is meant from `dir`.
fn glob(dir: &Path, pattern: &[u8]) -> Vec<PathBuf> {
    let mut full = Vec::new();
    if !pattern.starts_with(b"/") {
        for &byte in dir.as_os_str().as_bytes() {
            if b"*?[]\\".contains(&byte) {
                full.push(b'\\');
            }
            full.push(byte);
        }
        full.push(b'/');
    }
    full.extend(pattern);
    let Ok(full) = CString::new(full) else { return Vec::new() };

    let mut paths = Vec::new();
    // SAFETY: `found` is plain data that glob fills in. The strings it lists live until globfree, and are copied
    // before it; globfree is right after a failure as well.
    unsafe {
        let mut found: libc::glob_t = std::mem::zeroed();
        if libc::glob(full.as_ptr(), 0, None, &mut found) == 0 {
            for at in 0..found.gl_pathc {
                let path = std::ffi::CStr::from_ptr(*found.gl_pathv.add(at));
                paths.push(PathBuf::from(OsString::from_vec(path.to_bytes().to_vec())));
            }
        }
        libc::globfree(&mut found);
    }
    paths
}
