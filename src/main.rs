//! The server program: arguments, configuration, the process, and then the loop until it ends.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::mem;
use std::path::PathBuf;
use std::process::exit;

use argh::FromArgs;
use redis_rs::commands::FAMILIES;
use redis_rs::config::{Config, DEFAULT_PIDFILE, FatalConfig, Invocation, SyslogFacility};
use redis_rs::env::{alloc, crash, examine, process, supervise};
use redis_rs::observe::log;
use redis_rs::persistence::check::Tool;
use redis_rs::server::Program;
use redis_rs::server::boot;

/// How often `--test-memory` goes through all of it.
const MEMORY_PASSES: usize = 50;

/// How the program is called, for `--help`.
const SYNOPSIS: &str = "\
Usage: redis-rs [/path/to/redis.conf] [-] [--directive value ...]
       redis-rs -v | --version
       redis-rs -h | --help
       redis-rs --check-config /path/to/redis.conf
       redis-rs --check-system
       redis-rs --test-memory <megabytes>";

/// A Redis server.
///
/// Every directive of the configuration file can be given as an option, such as --port 7777 --replicaof 127.0.0.1
/// 6379. A dash reads (more) configuration from standard input.
#[derive(FromArgs)]
struct Arguments {
    /// print the version and exit
    #[argh(switch, short = 'v')]
    version: bool,
}

fn main() {
    let args: Vec<OsString> = std::env::args_os().collect();
    check_files(&args);
    answer_about_ourselves(&args);
    examine_the_machine(&args);
    let invocation = Invocation::parse(&args[1..]);
    let config = invocation.load().unwrap_or_else(|why| die_of(&why));
    let described = match (args.len(), &config.config_file) {
        (1, _) => None,
        (_, file) => Some(file.clone()),
    };
    let status = serve(config, Program::new(args), described.is_none());
    std::io::stdout().flush().ok();
    exit(status)
}

/// Called as `redis-check-rdb` or `redis-check-aof`, the program looks at files instead of serving.
fn check_files(args: &[OsString]) {
    let Some(tool) = args.first().and_then(|program| program.to_str()).and_then(Tool::named) else { return };
    let (mut out, mut answers) = (std::io::stdout().lock(), std::io::stdin().lock());
    // Where nobody reads what is found, there is nobody to tell so either.
    exit(tool.run(&args[1..], &mut out, &mut answers).unwrap_or(1))
}

/// `--version` and `--help`, which argh knows how to answer; everything else is the configuration's matter.
fn answer_about_ourselves(args: &[OsString]) {
    // As for redis-server, what stands behind it does not count.
    let [program, only, ..] = args else { return };
    let only = only.to_string_lossy();
    if !matches!(&*only, "--version" | "-v" | "--help" | "-h") {
        return;
    }
    let word = if only == "-h" { "--help" } else { &*only };
    match Arguments::from_args(&[&program.to_string_lossy()], &[word]) {
        Ok(arguments) if arguments.version => {
            println!("{}", version_line());
            exit(0)
        }
        Ok(_) => {}
        Err(early) => {
            // argh knows the switches alone, and would begin with a synopsis of these.
            let known = early.output.split_once("\n\n").map_or(&*early.output, |(_, known)| known);
            println!("{SYNOPSIS}\n\n{known}");
            exit(i32::from(early.status.is_err()))
        }
    }
}

/// What a real server says, from which programs take the version; then who we are.
fn version_line() -> String {
    format!(
        "Redis server v={} sha=00000000:0 malloc={} bits=64 build=0 redis-rs={}",
        redis_rs::config::REDIS_VERSION,
        alloc::name(),
        env!("CARGO_PKG_VERSION")
    )
}

/// `--check-system` and `--test-memory`: what is done instead of serving.
fn examine_the_machine(args: &[OsString]) {
    let out = &mut std::io::stdout();
    // Where nobody reads what is found, there is nobody to tell so either.
    match args.get(1).and_then(|word| word.to_str()) {
        Some("--check-config") => exit(check_config(&args[2..])),
        Some("--check-system") => exit(i32::from(!examine::check_system(out).unwrap_or(false))),
        Some("--test-memory") => {
            let megabytes = match &args[2..] {
                [megabytes] => megabytes.to_str().and_then(|megabytes| megabytes.parse().ok()),
                _ => None,
            };
            let Some(megabytes) = megabytes else {
                eprintln!("Please specify the amount of memory to test in megabytes.");
                eprintln!("Example: ./redis-server --test-memory 4096\n");
                exit(1)
            };
            match examine::test_memory(megabytes, MEMORY_PASSES, out) {
                Ok(Ok(())) => println!("\nYour memory passed this test."),
                Ok(Err(wrong)) => {
                    println!("\n*** MEMORY ERROR DETECTED *** in test '{}', word {}", wrong.test, wrong.word);
                    exit(1)
                }
                Err(_) => exit(1),
            }
            exit(0)
        }
        _ => {}
    }
}

/// `--check-config FILE`: every line that would be refused, with the reason, and those that would behave differently.
/// 0 if the server would start.
fn check_config(files: &[OsString]) -> i32 {
    let [file] = files else {
        eprintln!("Please specify the configuration file to check.");
        return 2;
    };
    match Invocation::parse(std::slice::from_ref(file)).check() {
        Ok(found) => {
            found.iter().for_each(|found| println!("{found}"));
            let refused = found.iter().filter(|found| found.refused).count();
            println!("{refused} lines are refused, {} differ.", found.len() - refused);
            i32::from(refused > 0)
        }
        Err(why) => {
            eprintln!("{why}");
            2
        }
    }
}

/// Says why there is no configuration, where Redis says it.
fn die_of(why: &FatalConfig) -> ! {
    match why {
        FatalConfig::Refused(_) => eprint!("{why}"),
        FatalConfig::CannotOpen { .. } => log::warning!("{why}"),
    }
    exit(1)
}

/// Makes the process what the configuration wants, and serves until the end. Returns the exit status.
fn serve(config: Config, program: Program, defaults: bool) -> i32 {
    if let Err(why) = process::change_dir(&config.dir) {
        eprintln!("{why}");
        return 1;
    }
    let logfile = String::from_utf8_lossy(&config.logfile).into_owned();
    if !logfile.is_empty()
        && let Err(why) = log::probe(&logfile)
    {
        eprintln!("\n*** FATAL CONFIG FILE ERROR (Redis {}) ***\n{why}", redis_rs::config::REDIS_VERSION);
        return 1;
    }
    boot::apply_log(&config);
    log::open(&log::Destination { logfile, syslog: syslog_of(&config) });
    let supervisor = supervise::begin(boot::supervision(config.supervised), &mut log::report);
    let background = config.daemonize && !supervisor.is_present();
    if background && let Err(why) = process::daemonize() {
        log::warning!("Can't daemonize: {why}");
        return 1;
    }
    process::set_name();
    let _counted = alloc::track_thread();
    install_crash_reports(&config);
    log::notice!("oO0OoO0OoO0Oo Redis is starting oO0OoO0OoO0Oo");
    log::notice!(
        "Redis version={}, bits=64, commit=00000000, modified=0, pid={}, just started",
        redis_rs::config::REDIS_VERSION,
        process::pid()
    );
    if defaults {
        log::warning!(
            "Warning: no config file specified, using the default config. In order to specify a config file use {} /path/to/redis.conf",
            program.executable.display()
        );
    } else {
        log::notice!("Configuration loaded");
    }
    log::this_is_the_server();
    let pidfile = write_pidfile(&config, background);
    introduce(&config, background);
    let mut server = match boot::boot(config, FAMILIES, supervisor, program) {
        Ok(server) => server,
        Err(why) => {
            log::warning!("{why}");
            if let Some(path) = &pidfile {
                process::pidfile_remove(path, &mut |_| {});
            }
            return 1;
        }
    };
    server.life.pidfile = pidfile;
    let status = server.run();
    if status == 0 {
        server.clean_up();
    }
    // Dropping the data set would take as long as it is large; the system takes the memory back at once.
    mem::forget(server);
    status
}

/// What is told should the process end by a fault of its own.
fn install_crash_reports(config: &Config) {
    let report = crash::Report {
        line: |text| log::from_handler(log::Level::Warning, text),
        raw: |bytes| log::raw(log::Level::Warning, bytes),
        version: "Redis 7.2.4",
        describe: None,
    };
    crash::install(report);
    crash::catch_signals(config.crash_log_enabled);
    crash::exit_on_panic(config.use_exit_on_panic);
}

/// The file that is to hold our pid: the one that is configured, or in the background the usual one.
fn write_pidfile(config: &Config, background: bool) -> Option<PathBuf> {
    let pidfile = match (config.pidfile.is_set(), background) {
        (true, _) => Some(config.pidfile.as_path().to_owned()),
        (false, true) => Some(PathBuf::from(DEFAULT_PIDFILE)),
        (false, false) => None,
    };
    if let Some(path) = &pidfile {
        process::pidfile_write(path, &mut log::report);
        crash::remove_pidfile(path);
    }
    pidfile
}

/// Says who we are: a picture for people at a terminal (or who asked for it), a line for the log of everybody else.
fn introduce(config: &Config, background: bool) {
    let at_terminal =
        !background && !config.syslog_enabled && !config.logfile.is_set() && std::io::stdout().is_terminal();
    if !config.always_show_logo && !at_terminal {
        log::notice!("Running mode=standalone, port={}.", config.port);
        return;
    }
    let logo = format!(
        r"
     .-----------.
    /  __   __  /|     redis-rs {}
   /  /_/  /_  / |     Redis {} in Rust, 64 bit
  /  / \  __/ /  |
 .-----------.   /     Running in standalone mode
 |  o     o  |  /      Port: {}
 |___________| /       PID: {}
 '-----------''

",
        env!("CARGO_PKG_VERSION"),
        redis_rs::config::REDIS_VERSION,
        config.port,
        process::pid()
    );
    log::raw(log::Level::Notice, logo.as_bytes());
}

fn syslog_of(config: &Config) -> Option<(String, log::Facility)> {
    let facility = match config.syslog_facility {
        SyslogFacility::User => log::Facility::User,
        SyslogFacility::Local0 => log::Facility::Local(0),
        SyslogFacility::Local1 => log::Facility::Local(1),
        SyslogFacility::Local2 => log::Facility::Local(2),
        SyslogFacility::Local3 => log::Facility::Local(3),
        SyslogFacility::Local4 => log::Facility::Local(4),
        SyslogFacility::Local5 => log::Facility::Local(5),
        SyslogFacility::Local6 => log::Facility::Local(6),
        SyslogFacility::Local7 => log::Facility::Local(7),
    };
    config.syslog_enabled.then(|| (String::from_utf8_lossy(&config.syslog_ident).into_owned(), facility))
}
