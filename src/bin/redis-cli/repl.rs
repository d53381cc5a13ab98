//! The prompt: reads lines (from a terminal with editing, history and hints; otherwise plainly, without a prompt),
//! does what is for the client itself, and gives everything else to the session.

use crate::connection::Address;
use crate::docs::Catalog;
use crate::format::Output;
use crate::history::{self, History};
use crate::session::{Session, Stop};
use crate::terminal::{self, print};
use crate::words::{leading_int, split};
use crate::{help, hints};
use rustyline::completion::Completer;
use rustyline::config::{CompletionType, Config, Configurer};
use rustyline::error::ReadlineError;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::{Hint, Hinter};
use rustyline::history::MemHistory;
use rustyline::validate::Validator;
use rustyline::{ColorMode, Context, Editor, Helper};
use std::borrow::Cow;
use std::io::{self, Read};
use std::time::{Duration, Instant};

/// Commands that take longer are told how long they took.
const SLOW: Duration = Duration::from_millis(500);

/// Runs until the input ends or the user quits. Returns the program's status.
pub fn run(session: &mut Session) -> u8 {
    session.interactive = true;
    let mut input = match terminal::stdin_is_tty() {
        true => Input::terminal(session),
        false => Input::Plain(PlainLines::default()),
    };
    loop {
        let Some(line) = input.next_line(&session.prompt()) else {
            // Ctrl-C, Ctrl-D or the end of the input. A subscriber leaves the subscription first, in
            // the one way that needs no answer.
            if session.is_subscribed() && session.reconnect(false).is_ok() {
                continue;
            }
            return 0;
        };
        match one_line(session, &mut input, &line) {
            Ok(Next::Line) => {}
            Ok(Next::Quit) => return 0,
            Err(Stop::Failed) => {}
            Err(Stop::Exit(status)) => return status,
        }
        if session.is_subscribed()
            && let Err(Stop::Exit(status)) = session.show_messages(input.has_line())
        {
            return status;
        }
    }
}

enum Next {
    Line,
    Quit,
}

fn one_line(session: &mut Session, input: &mut Input, line: &[u8]) -> Result<Next, Stop> {
    let Some(args) = split(line) else {
        print("Invalid argument(s)\n");
        input.remember(line);
        return Ok(Next::Line);
    };
    let Some(first) = args.first() else { return Ok(Next::Line) };

    // "5 incr x" runs a command five times.
    let (repeat, command) = match repeat_prefix(first) {
        Some(repeat) if args.len() > 1 => match repeat {
            Ok(repeat) => (repeat, &args[1..]),
            Err(()) => {
                print("Invalid redis-cli repeat command option value.\n");
                return Ok(Next::Line);
            }
        },
        _ => (1, &args[..]),
    };
    if !history::is_secret(command) {
        input.remember(line);
    }
    match (first.to_ascii_lowercase().as_slice(), args.len()) {
        (b"quit" | b"exit", _) => return Ok(Next::Quit),
        ([b':', ..], _) => input.set_preference(&args, ""),
        (b"connect", 3) => {
            session.address = Address::Tcp {
                host: String::from_utf8_lossy(&args[1]).into_owned(),
                port: u16::try_from(leading_int(&args[2])).unwrap_or(0),
            };
            session.reconnect(false)?;
        }
        (b"clear", 1) => print("\x1b[H\x1b[2J"),
        (b"restart", _) => print("Use 'restart' only in Lua debugging mode.\n"),
        _ => {
            let start = Instant::now();
            let result = run_command(session, input, command, repeat);
            let elapsed = start.elapsed();
            if elapsed >= SLOW && session.style.output == Output::Standard {
                print(format!("({:.2}s)\n", elapsed.as_secs_f64()));
            }
            result?;
        }
    }
    Ok(Next::Line)
}

fn run_command(session: &mut Session, input: &mut Input, args: &[Vec<u8>], repeat: i64) -> Result<(), Stop> {
    if is_help(&args[0]) {
        input.help(session, &args[1..]);
        return Ok(());
    }
    session.issue(args, repeat)
}

/// Whether a command is the client's own help, which needs no server.
pub fn is_help(command: &[u8]) -> bool {
    command == b"?" || command.eq_ignore_ascii_case(b"help")
}

/// The number that a whole word is, or `Err` for one that cannot be a count; `None` for words.
fn repeat_prefix(word: &[u8]) -> Option<Result<i64, ()>> {
    let text = std::str::from_utf8(word).ok()?;
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().ok().filter(|repeat| *repeat > 0).ok_or(()))
}

/// Where lines come from.
enum Input {
    Terminal(Box<Terminal>),
    Plain(PlainLines),
}

struct Terminal {
    editor: Editor<Assistant, MemHistory>,
    history: History,
}

impl Input {
    fn terminal(session: &mut Session) -> Input {
        let config =
            Config::builder().completion_type(CompletionType::Circular).auto_add_history(false).build();
        let mut editor = match Editor::with_history(config.clone(), MemHistory::with_config(&config)) {
            Ok(editor) => editor,
            // A terminal that cannot be edited on is still one to read from.
            Err(_) => return Input::Plain(PlainLines::default()),
        };
        let history = History::load();
        for line in history.lines() {
            let _ = editor.add_history_entry(line.as_str());
        }
        editor.set_helper(Some(Assistant { catalog: Catalog::load(session), wants_hints: true }));
        let mut input = Input::Terminal(Box::new(Terminal { editor, history }));
        input.load_preferences();
        input
    }

    /// `None` at the end of the input, or when the user presses Ctrl-C or Ctrl-D.
    fn next_line(&mut self, prompt: &str) -> Option<Vec<u8>> {
        match self {
            Input::Terminal(terminal) => match terminal.editor.readline(prompt) {
                Ok(line) => Some(line.into_bytes()),
                Err(ReadlineError::Signal(_)) => Some(Vec::new()),
                Err(_) => None,
            },
            Input::Plain(lines) => lines.next(),
        }
    }

    /// Whether a line has been read from the system already, which no waiting would tell.
    fn has_line(&self) -> bool {
        match self {
            Input::Terminal(_) => false,
            Input::Plain(lines) => !lines.buffer.is_empty(),
        }
    }

    fn remember(&mut self, line: &[u8]) {
        if let Input::Terminal(terminal) = self {
            let line = String::from_utf8_lossy(line);
            let _ = terminal.editor.add_history_entry(line.as_ref());
            terminal.history.add(&line);
        }
    }

    fn help(&mut self, session: &mut Session, topic: &[Vec<u8>]) {
        match self {
            Input::Terminal(terminal) => {
                if let Some(assistant) = terminal.editor.helper_mut() {
                    // There may have been no server yet when the prompt began.
                    if !topic.is_empty() && assistant.catalog.entries.is_empty() {
                        assistant.catalog = Catalog::load(session);
                    }
                    help::show(&assistant.catalog, topic);
                }
            }
            Input::Plain(_) => help::show(&Catalog::load(session), topic),
        }
    }

    /// `:set hints`, `:set nohints`. `origin` begins the complaints.
    fn set_preference(&mut self, args: &[Vec<u8>], origin: &str) {
        let word = |at: usize| String::from_utf8_lossy(&args[at]);
        if !word(0).eq_ignore_ascii_case(":set") || args.len() < 2 {
            return print(format!("{origin}unknown redis-cli internal command '{}'\n", word(0)));
        }
        let wants_hints = match word(1).to_ascii_lowercase().as_str() {
            "hints" => true,
            "nohints" => false,
            _ => return print(format!("{origin}unknown redis-cli preference '{}'\n", word(1))),
        };
        if let Input::Terminal(terminal) = self
            && let Some(assistant) = terminal.editor.helper_mut()
        {
            assistant.wants_hints = wants_hints;
        }
    }

    fn load_preferences(&mut self) {
        let Some(file) = history::dot_file("REDISCLI_RCFILE", ".redisclirc") else { return };
        for line in std::fs::read(file).unwrap_or_default().split(|byte| *byte == b'\n') {
            if let Some(args) = split(line).filter(|args| !args.is_empty()) {
                self.set_preference(&args, ".redisclirc: ");
            }
        }
    }
}

/// Lines of standard input, read without reading ahead of what is there.
#[derive(Default)]
struct PlainLines {
    buffer: Vec<u8>,
    is_at_end: bool,
}

impl PlainLines {
    fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.buffer) {
                let mut line: Vec<u8> = self.buffer.drain(..=end).collect();
                line.pop();
                return Some(line);
            }
            if self.is_at_end {
                return (!self.buffer.is_empty()).then(|| std::mem::take(&mut self.buffer));
            }
            let mut chunk = [0; 4096];
            match io::stdin().lock().read(&mut chunk) {
                Ok(0) => self.is_at_end = true,
                Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.is_at_end = true,
            }
        }
    }
}

/// Asks for a password, showing a star for each character.
pub fn ask_password() -> Option<Vec<u8>> {
    if !terminal::stdin_is_tty() {
        return PlainLines::default().next();
    }
    let mut editor = Editor::<Mask, MemHistory>::with_history(Config::default(), MemHistory::new()).ok()?;
    editor.set_helper(Some(Mask));
    editor.set_auto_add_history(false);
    // Without colors there is no masking.
    editor.set_color_mode(ColorMode::Forced);
    editor.readline("Please input password: ").ok().map(String::into_bytes)
}

/// Hints and completions while a line is typed.
struct Assistant {
    catalog: Catalog,
    wants_hints: bool,
}

/// A hint is only shown: it names arguments, it is not what one would type.
struct ShownHint(String);

impl Hint for ShownHint {
    fn display(&self) -> &str {
        &self.0
    }

    fn completion(&self) -> Option<&str> {
        None
    }
}

impl Hinter for Assistant {
    type Hint = ShownHint;

    fn hint(&self, line: &str, pos: usize, _: &Context<'_>) -> Option<ShownHint> {
        if !self.wants_hints || pos < line.len() {
            return None;
        }
        let hint = hints::for_line(&self.catalog, line.as_bytes()).filter(|hint| !hint.is_empty())?;
        let space = if line.ends_with(|c: char| c.is_ascii_whitespace()) { "" } else { " " };
        Some(ShownHint(format!("{space}{hint}")))
    }
}

impl Completer for Assistant {
    type Candidate = String;

    /// Names of commands for the whole line; after `help`, groups as well.
    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let line = &line[..pos];
        let is_help = line.get(..5).is_some_and(|head| head.eq_ignore_ascii_case("help "));
        let start = if is_help { line.len() - line[5..].trim_ascii_start().len() } else { 0 };
        let begun = line[start..].to_ascii_uppercase();
        let names = self.catalog.entries.iter().map(|entry| entry.name());
        let groups = self.catalog.groups.iter().filter(|_| is_help).map(|group| format!("@{group}"));
        let all = groups.chain(names);
        Ok((start, all.filter(|name| name.to_ascii_uppercase().starts_with(&begun)).collect()))
    }
}

impl Highlighter for Assistant {
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Owned(format!("\x1b[0;90;49m{hint}\x1b[0m"))
    }
}

impl Validator for Assistant {}
impl Helper for Assistant {}

struct Mask;

impl Highlighter for Mask {
    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        Cow::Owned("*".repeat(line.chars().count()))
    }

    fn highlight_char(&self, _: &str, _: usize, kind: CmdKind) -> bool {
        !matches!(kind, CmdKind::MoveCursor)
    }
}

impl Hinter for Mask {
    type Hint = String;
}

impl Completer for Mask {
    type Candidate = String;
}

impl Validator for Mask {}
impl Helper for Mask {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_before_a_command_repeats_it() {
        assert_eq!(repeat_prefix(b"5"), Some(Ok(5)));
        assert_eq!(repeat_prefix(b"0"), Some(Err(())));
        assert_eq!(repeat_prefix(b"-1"), Some(Err(())));
        assert_eq!(repeat_prefix(b"99999999999999999999"), Some(Err(())));
        assert_eq!(repeat_prefix(b"5x"), None);
        assert_eq!(repeat_prefix(b""), None);
    }
}
