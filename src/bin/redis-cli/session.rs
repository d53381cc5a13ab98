//! A session with a server: entering it (AUTH, SELECT, HELLO), sending the user's commands, showing the replies, and
//! remembering what the commands change about the session itself: the database, MULTI, subscriptions, the protocol.
//!
//! Owns the connection. It may be missing at any time; whatever needs it opens it anew. Never reads the keyboard's
//! lines: that is the prompt's part.

use crate::connection::{Address, Connection, Event, LinkError};
use crate::format::{Output, Style, invalidation};
use crate::interrupt;
use crate::options::Options;
use crate::terminal::{self, error_text, print};
use crate::words::leading_int;
use redis_rs::protocol::value::Value;
use std::time::Duration;

/// Why a command came to no end. What there was to say has been said.
#[derive(Debug)]
pub enum Stop {
    /// No connection, or not any more; an interactive user may go on.
    Failed,
    /// The program is to end with this status.
    Exit(u8),
}

/// What RESP3's out-of-band messages are to a caller that waits for a reply.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pushes {
    Print,
    Discard,
    /// They are the replies: subscriptions are confirmed by them.
    Deliver,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Commands,
    Monitor,
    Subscribed,
}

/// Whether RESP3 was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resp3 {
    No,
    /// By the user: failing is an error.
    Required,
    /// For the sake of an output format: an old server will do as well.
    Preferred,
}

pub struct Session {
    pub address: Address,
    pub style: Style,
    /// Whether somebody sits there (or a script that reads line by line): a lost connection does not end the program.
    pub interactive: bool,
    user: Option<Vec<u8>>,
    password: Option<Vec<u8>>,
    resp3: Resp3,
    timeout: Option<Duration>,
    interval: Duration,
    exit_on_error: bool,
    show_pushes: bool,
    follows_redirections: bool,

    connection: Option<Connection>,
    /// The database that the user wants, and the one that the connection has.
    wanted_db: i64,
    db: i64,
    /// Inside MULTI: the database before it.
    transaction: Option<i64>,
    is_resp3: bool,
    mode: Mode,
    pushes: Pushes,
    /// SHUTDOWN was sent: losing the connection is success.
    shutting_down: bool,
    last: Option<Value>,
    /// Where the last command has to be sent instead, and how many such answers it has had in a row.
    redirection: Option<Redirection>,
    redirections: usize,
}

/// So many redirections of one command are followed; then the error is shown.
const MOST_REDIRECTIONS: usize = 16;

/// The answer of a node of a cluster that does not have the key: `MOVED slot host:port`, or `ASK slot host:port`.
#[derive(Debug, PartialEq)]
struct Redirection {
    /// For this one command: the other node wants to be told so.
    ask: bool,
    slot: i64,
    /// Empty if it is the same one.
    host: String,
    port: u16,
}

impl Redirection {
    fn parse(error: &[u8]) -> Option<Redirection> {
        let text = std::str::from_utf8(error).ok()?;
        let mut words = text.split(' ');
        let ask = match words.next()? {
            "MOVED" => false,
            "ASK" => true,
            _ => return None,
        };
        let slot = words.next()?.parse().ok()?;
        let (host, port) = words.next()?.rsplit_once(':')?;
        Some(Redirection { ask, slot, host: host.to_owned(), port: port.parse().ok()? })
    }
}

impl Session {
    pub fn new(options: &Options) -> Session {
        Session {
            address: options.address(),
            style: options.style.clone(),
            interactive: false,
            user: options.user.clone(),
            password: options.password.clone(),
            resp3: options.resp3,
            timeout: options.timeout,
            interval: options.interval,
            exit_on_error: options.exit_on_error,
            show_pushes: options.show_pushes,
            follows_redirections: options.cluster,
            redirection: None,
            redirections: 0,
            connection: None,
            wanted_db: options.db,
            db: 0,
            transaction: None,
            is_resp3: false,
            mode: Mode::Commands,
            pushes: Pushes::Discard,
            shutting_down: false,
            last: None,
        }
    }

    pub fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    pub fn is_subscribed(&self) -> bool {
        self.mode == Mode::Subscribed
    }

    pub fn prompt(&self) -> String {
        if self.connection.is_none() {
            return "not connected> ".to_string();
        }
        let mut prompt = match &self.address {
            Address::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Address::Tcp { .. } => self.address.to_string(),
            Address::Unix(_) => format!("redis {}", self.address),
        };
        if self.db != 0 {
            prompt.push_str(&format!("[{}]", self.db));
        }
        if self.transaction.is_some() {
            prompt.push_str("(TX)");
        }
        if self.is_subscribed() {
            prompt.push_str("(subscribed mode)");
        }
        prompt.push_str("> ");
        prompt
    }

    /// Opens the connection if there is none. When only the entry fails (a wrong password), the connection stays, and
    /// the server's answers will tell.
    pub fn connect(&mut self, quiet: bool) -> Result<(), Stop> {
        match self.connection {
            Some(_) => Ok(()),
            None => self.reconnect(quiet),
        }
    }

    /// Opens the connection anew: nothing of the old one's state is left.
    pub fn reconnect(&mut self, quiet: bool) -> Result<(), Stop> {
        self.connection = None;
        self.db = 0;
        self.transaction = None;
        self.set_mode(Mode::Commands);
        self.is_resp3 = false;
        self.restore_pushes();
        match Connection::open(&self.address, self.timeout) {
            Ok(connection) => self.connection = Some(connection),
            Err(error) => {
                if !quiet {
                    eprintln!("Could not connect to Redis at {}: {}", self.address, error_text(&error));
                }
                return Err(Stop::Failed);
            }
        }
        self.authenticate()?;
        self.select_wanted()?;
        self.switch_protocol()
    }

    fn authenticate(&mut self) -> Result<(), Stop> {
        let Some(password) = self.password.clone() else { return Ok(()) };
        let reply = match self.user.clone() {
            Some(user) => self.enter(&[b"AUTH".to_vec(), user, password])?,
            None => self.enter(&[b"AUTH".to_vec(), password])?,
        };
        match reply.error() {
            None => Ok(()),
            Some(error) => {
                eprintln!("AUTH failed: {}", String::from_utf8_lossy(error));
                Err(Stop::Failed)
            }
        }
    }

    fn select_wanted(&mut self) -> Result<(), Stop> {
        if self.wanted_db == self.db {
            return Ok(());
        }
        let wanted = self.wanted_db.to_string();
        let reply = self.enter(&["SELECT", &wanted])?;
        match reply.error() {
            None => {
                self.db = self.wanted_db;
                Ok(())
            }
            Some(error) => {
                eprintln!("SELECT {wanted} failed: {}", String::from_utf8_lossy(error));
                Err(Stop::Failed)
            }
        }
    }

    fn switch_protocol(&mut self) -> Result<(), Stop> {
        if self.resp3 == Resp3::No {
            return Ok(());
        }
        let reply = self.enter(&["HELLO", "3"])?;
        if let Some(error) = reply.error() {
            eprintln!("HELLO 3 failed: {}", String::from_utf8_lossy(error));
            return if self.resp3 == Resp3::Required { Err(Stop::Failed) } else { Ok(()) };
        }
        self.is_resp3 = true;
        Ok(())
    }

    /// A command of the entry. Without an answer there is no connection.
    fn enter<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Result<Value, Stop> {
        self.call(args).map_err(|_| {
            eprintln!("\nI/O error");
            self.connection = None;
            Stop::Failed
        })
    }

    /// Sends a command of our own and returns its reply unshown.
    pub fn call<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Result<Value, LinkError> {
        let connection = self.connection.as_mut().ok_or(LinkError::Closed)?;
        connection.send(args)?;
        loop {
            match connection.receive()?.without_attributes() {
                Value::Push(_) => {}
                reply => return Ok(reply),
            }
        }
    }

    /// The connection itself, for modes that speak to the server in their own way.
    pub fn connection(&mut self) -> Result<&mut Connection, LinkError> {
        self.connection.as_mut().ok_or(LinkError::Closed)
    }

    /// Sends the user's command `repeat` times (for ever if negative) and shows the replies.
    pub fn issue(&mut self, args: &[Vec<u8>], repeat: i64) -> Result<(), Stop> {
        self.connect(false)?;
        let result = self.run(args, repeat);
        if let Err(Stop::Failed) = result {
            self.connection = None;
        }
        result
    }

    fn run(&mut self, args: &[Vec<u8>], mut repeat: i64) -> Result<(), Stop> {
        let command = Command::of(args);
        match command {
            Command::Shutdown => self.shutting_down = true,
            Command::Monitor => self.set_mode(Mode::Monitor),
            _ => {}
        }
        let verbatim = is_text_for_people(args);
        self.redirections = 0;
        while repeat != 0 {
            let sent = match self.connection.as_mut() {
                Some(connection) => connection.send(args),
                None => return Ok(()),
            };
            if let Err(error) = sent {
                self.lost(error)?;
                return Ok(());
            }
            if let Command::Sync = command {
                print("Entering replica output mode...  (press Ctrl-C to quit)\n");
                return crate::modes::replica::follow(self);
            }
            if self.mode == Mode::Monitor {
                return self.monitor(verbatim);
            }
            self.read_answers(args, &command, verbatim)?;
            if let Some(redirection) = self.redirection.take() {
                self.follow(redirection)?;
                continue;
            }
            self.redirections = 0;
            repeat -= i64::from(repeat > 0);
            if !self.interval.is_zero() {
                std::thread::sleep(self.interval);
            }
        }
        Ok(())
    }

    /// Goes where the command has to be sent.
    fn follow(&mut self, to: Redirection) -> Result<(), Stop> {
        self.redirections += 1;
        let host = match &self.address {
            _ if !to.host.is_empty() => to.host,
            Address::Tcp { host, .. } => host.clone(),
            Address::Unix(_) => "127.0.0.1".to_string(),
        };
        if self.interactive {
            print(format!("-> Redirected to slot [{}] located at {host}:{}\n", to.slot, to.port));
        }
        self.address = Address::Tcp { host, port: to.port };
        self.reconnect(false)?;
        if to.ask {
            self.enter(&["ASKING"])?;
        }
        Ok(())
    }

    fn monitor(&mut self, verbatim: bool) -> Result<(), Stop> {
        while self.mode == Mode::Monitor {
            self.read_reply(verbatim)?;
            if matches!(self.last, Some(Value::Error(_))) {
                self.set_mode(Mode::Commands);
            }
        }
        Ok(())
    }

    /// Reads the reply to a command, with the messages that come before it, and learns from it.
    fn read_answers(&mut self, args: &[Vec<u8>], command: &Command, verbatim: bool) -> Result<(), Stop> {
        // (P|S)(UN)SUBSCRIBE are answered by one message per channel, at least one.
        let mut confirmations = match command {
            Command::Subscribe | Command::Unsubscribe => {
                self.pushes = Pushes::Deliver;
                (args.len() - 1).max(1)
            }
            _ => 0,
        };
        loop {
            self.read_reply(verbatim)?;
            let Some(last) = &self.last else { return Ok(()) };
            if confirmations == 0 && !self.is_subscribed() {
                break;
            }
            match subscription_message(last, self.is_resp3) {
                Some(kind) if confirmations > 0 && kind.eq_ignore_ascii_case(&args[0]) => {
                    if let Command::Subscribe = command {
                        self.set_mode(Mode::Subscribed);
                    }
                    confirmations -= 1;
                    if confirmations == 0 {
                        break;
                    }
                }
                // A message that came in between.
                Some(_) => {}
                None if matches!(last, Value::Push(_)) => {}
                None => break,
            }
        }
        self.learn(args, command);
        Ok(())
    }

    /// What a command and its reply change about the session.
    fn learn(&mut self, args: &[Vec<u8>], command: &Command) {
        let Some(last) = &self.last else { return };
        let is_error = matches!(last, Value::Error(_));
        match command {
            Command::Select if args.len() == 2 && !is_error => {
                self.db = leading_int(&args[1]);
                self.wanted_db = self.db;
            }
            Command::Auth if matches!(args.len(), 2 | 3) => {
                // Why it failed has been printed; the user's own command succeeded.
                let _ = self.select_wanted();
            }
            Command::Multi if args.len() == 1 && !is_error => self.transaction = Some(self.db),
            Command::Exec if args.len() == 1 => {
                if let Some(before) = self.transaction.take()
                    && (is_error || matches!(last, Value::Null))
                {
                    self.db = before;
                    self.wanted_db = before;
                }
            }
            Command::Discard if args.len() == 1 && !is_error => {
                if let Some(before) = self.transaction.take() {
                    self.db = before;
                    self.wanted_db = before;
                }
            }
            Command::Reset if args.len() == 1 && !is_error => {
                self.transaction = None;
                self.db = 0;
                self.wanted_db = 0;
                self.is_resp3 = false;
                self.set_mode(Mode::Commands);
                self.restore_pushes();
            }
            Command::Hello => match last {
                Value::Map(_) => self.is_resp3 = true,
                Value::Array(_) => self.is_resp3 = false,
                _ => {}
            },
            Command::Subscribe | Command::Unsubscribe if !self.is_subscribed() => self.restore_pushes(),
            _ => {}
        }
    }

    /// Reads one reply and shows it.
    pub fn read_reply(&mut self, verbatim: bool) -> Result<(), Stop> {
        self.last = None;
        let reply = loop {
            let Some(connection) = self.connection.as_mut() else { return Err(Stop::Failed) };
            match connection.receive_or_interrupt() {
                Ok(value) => match value.without_attributes() {
                    push @ Value::Push(_) if self.pushes == Pushes::Print => self.show_push(&push),
                    Value::Push(_) if self.pushes == Pushes::Discard => {}
                    reply => break reply,
                },
                Err(LinkError::Interrupted) => return self.reconnect(false),
                Err(error) => return self.lost(error),
            }
        };
        if let Value::Error(text) = &reply
            && self.follows_redirections
            && self.redirections < MOST_REDIRECTIONS
            && let Some(redirection) = Redirection::parse(text)
        {
            self.redirection = Some(redirection);
            self.last = Some(reply);
            return Ok(());
        }
        if let Value::Error(text) = &reply
            && self.exit_on_error
            && !self.interactive
        {
            eprintln!("{}", String::from_utf8_lossy(text));
            return Err(Stop::Exit(1));
        }
        print(if verbatim { self.style.format_verbatim(&reply) } else { self.style.format(&reply) });
        self.last = Some(reply);
        Ok(())
    }

    fn show_push(&self, push: &Value) {
        let line = match self.style.output {
            Output::Standard => invalidation(push),
            _ => None,
        };
        print(line.unwrap_or_else(|| self.style.format(push)));
    }

    /// The connection broke. Says so and decides what that means.
    fn lost(&mut self, error: LinkError) -> Result<(), Stop> {
        self.connection = None;
        if self.shutting_down {
            return Ok(());
        }
        eprintln!("Error: {error}");
        self.set_mode(Mode::Commands);
        Err(if self.interactive && error.is_hangup() { Stop::Failed } else { Stop::Exit(1) })
    }

    /// Shows messages to a subscriber until Ctrl-C (which ends the subscription) or until there is input, which may
    /// have been read already.
    pub fn show_messages(&mut self, has_input: bool) -> Result<(), Stop> {
        let tells = self.style.output != Output::Raw && terminal::stdout_is_tty();
        let (bright, normal) = match tells && terminal::has_color() {
            true => ("\x1b[1;90m", "\x1b[0m"),
            false => ("", ""),
        };
        let _key = terminal::AnyKey::new();
        while self.is_subscribed() {
            loop {
                let value = match self.connection.as_mut().map(Connection::buffered) {
                    Some(Ok(Some(value))) => value.without_attributes(),
                    Some(Ok(None)) => break,
                    Some(Err(error)) => return self.lost(error),
                    None => return Err(Stop::Failed),
                };
                print(self.style.format(&value));
            }
            if tells {
                let line = "Reading messages... (press Ctrl-C to quit or any key to type command)\r";
                print(format!("{bright}{line}{normal}"));
            }
            let Some(connection) = self.connection.as_ref() else { return Err(Stop::Failed) };
            let event = match has_input {
                true => Ok(Event::Stdin),
                false => connection.wait(true, Some(Duration::from_secs(5))),
            };
            if tells {
                print("\x1b[K");
            }
            match event {
                Ok(Event::Interrupt) => {
                    return self.reconnect(false).map_err(|_| Stop::Exit(1));
                }
                Ok(Event::Server) => {
                    if let Some(connection) = self.connection.as_mut()
                        && let Err(error) = connection.fill()
                    {
                        eprintln!("Error: {error}");
                        return Err(Stop::Exit(1));
                    }
                }
                Ok(Event::Stdin) => break,
                Ok(Event::Timeout) => {}
                Err(error) => return self.lost(error.into()),
            }
        }
        Ok(())
    }

    fn set_mode(&mut self, mode: Mode) {
        self.mode = mode;
        interrupt::listen(mode != Mode::Commands);
    }

    fn restore_pushes(&mut self) {
        self.pushes = if self.show_pushes { Pushes::Print } else { Pushes::Discard };
    }
}

/// The commands that change something about the session.
enum Command {
    Shutdown,
    Monitor,
    Subscribe,
    Unsubscribe,
    Sync,
    Select,
    Auth,
    Multi,
    Exec,
    Discard,
    Reset,
    Hello,
    Other,
}

impl Command {
    fn of(args: &[Vec<u8>]) -> Command {
        match args[0].to_ascii_lowercase().as_slice() {
            b"shutdown" => Command::Shutdown,
            b"monitor" => Command::Monitor,
            b"subscribe" | b"psubscribe" | b"ssubscribe" => Command::Subscribe,
            b"unsubscribe" | b"punsubscribe" | b"sunsubscribe" => Command::Unsubscribe,
            b"sync" | b"psync" => Command::Sync,
            b"select" => Command::Select,
            b"auth" => Command::Auth,
            b"multi" => Command::Multi,
            b"exec" => Command::Exec,
            b"discard" => Command::Discard,
            b"reset" => Command::Reset,
            b"hello" => Command::Hello,
            _ => Command::Other,
        }
    }
}

/// Commands whose reply is a text with its own lines, which quoting would only spoil.
fn is_text_for_people(args: &[Vec<u8>]) -> bool {
    let word = |at: usize| args.get(at).map(|word| word.to_ascii_lowercase()).unwrap_or_default();
    let (command, topic) = (word(0), word(1));
    match (command.as_slice(), topic.as_slice()) {
        (b"info" | b"lolwut", _) => true,
        (b"debug", b"htstats" | b"htstats-key" | b"client-eviction") => true,
        (b"memory", b"malloc-stats" | b"doctor") => true,
        (b"cluster", b"nodes" | b"info") => args.len() == 2,
        (b"client", b"list" | b"info") => true,
        (b"latency", b"graph") => args.len() == 3,
        (b"latency", b"doctor") => args.len() == 2,
        (b"proxy", b"info") => true,
        _ => false,
    }
}

/// The kind of a pub/sub message ("message", "psubscribe", …), when the value is one.
fn subscription_message(value: &Value, is_resp3: bool) -> Option<&[u8]> {
    let items = match value {
        Value::Push(items) if is_resp3 => items,
        Value::Array(items) if !is_resp3 => items,
        _ => return None,
    };
    match items.as_slice() {
        [Value::Bulk(kind), _, _, ..] if kind.ends_with(b"message") || kind.ends_with(b"subscribe") => {
            Some(kind)
        }
        _ => None,
    }
}
