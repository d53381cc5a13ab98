//! Speed and size of redis-rs beside real servers, measured in one run: `make bench` calls this.
//!
//! It starts all of them, and a bare event loop as the floor, on the same configuration; gives the server one processor and the
//! load another; lets them take turns; and tells ratios to the best of the others, of which the CPU time of the server process per operation comes
//! first, since noise disturbs it least. From the ground up:
//!
//! | module | what it owns |
//! | --- | --- |
//! | `machine` | processors, CPU clocks and memory of processes |
//! | `resp`, `load` | requests, counted replies, the load |
//! | `floor` | the bare loop |
//! | `server` | one server: started, asked, filled, killed |
//! | `report` | rows, the table, JSON, the picture |
//! | `measure` | rounds, medians, ratios; one point of CPU time |
//! | `points` | what is measured |

mod floor;
mod load;
mod machine;
mod measure;
mod points;
mod report;
mod resp;
mod server;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use argh::FromArgs;

use crate::machine::Cores;
use crate::measure::Plan;
use crate::points::{Bench, append_only, eviction, fanout, latency, memory, operations, persistence};
use crate::report::Setting;
use crate::server::{Binaries, Peer};

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Measures redis-rs beside real servers.
#[derive(FromArgs)]
struct Options {
    /// our server (default ./redis-rs)
    #[argh(option, default = "PathBuf::from(\"./redis-rs\")")]
    ours: PathBuf,
    /// a real server as name=program; given as often as there are (default: redis=redis-server)
    #[argh(option, from_str_fn(peer))]
    peer: Vec<Peer>,
    /// less of everything
    #[argh(switch)]
    quick: bool,
    /// only points whose "group / name" this regular expression matches
    #[argh(option)]
    only: Option<String>,
    /// where the figures go as JSON
    #[argh(option)]
    json: Option<PathBuf>,
    /// where a picture of the ratios goes, as SVG
    #[argh(option)]
    picture: Option<PathBuf>,
    /// be the floor on this port: the bare loop that the others are compared with
    #[argh(option)]
    floor: Option<u16>,
}

fn main() -> ExitCode {
    let options: Options = argh::from_env();
    let result = match options.floor {
        Some(port) => floor::serve(port).map_err(Into::into),
        None => run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let only = options.only.as_deref().filter(|only| !only.is_empty());
    let only = only.map(regex_lite::Regex::new).transpose()?;
    let mut peers = options.peer.clone();
    if peers.is_empty() {
        peers.push(peer("redis=redis-server")?);
    }
    let binaries = Binaries { ours: options.ours.canonicalize()?, peers };
    let version = |peer: &Peer| -> Result<(String, String)> {
        Ok((peer.name.clone(), first_line(Command::new(&peer.program).arg("--version"))?))
    };
    let setting = Setting {
        machine: machine::describe(),
        date: first_line(Command::new("date").args(["-u", "+%Y-%m-%d"]))?,
        ours: first_line(Command::new(&binaries.ours).arg("--version"))?,
        peers: binaries.peers.iter().map(version).collect::<Result<_>>()?,
        load_average: machine::load_average(),
        quick: options.quick,
    };
    let cores = Cores::choose();
    println!("machine: {}", setting.machine);
    println!("ours:    {}", setting.ours);
    setting.peers.iter().for_each(|(name, version)| println!("{name:8} {version}"));
    if cores.server == cores.load {
        println!("one processor only: server and load share it");
    } else {
        println!("server on processor {}, load on processor {}", cores.server, cores.load);
    }
    if setting.load_average > 0.5 {
        println!("the machine is busy (load average {}): figures will spread", setting.load_average);
    }
    machine::raise_open_files();
    machine::pin(0, &[cores.load])?;
    let mut bench = Bench { plan: Plan::new(options.quick), binaries, cores, only, rows: Vec::new() };
    for section in [
        operations::small,
        operations::scripts,
        operations::clients,
        operations::values,
        operations::random_keys,
        operations::big_collections,
        fanout::receivers,
        latency::waiting,
        memory::elements,
        memory::idle_clients,
        eviction::limits,
        persistence::dumps,
        persistence::copy_on_write,
        persistence::steady,
        append_only::writes,
        append_only::files,
    ] {
        section(&mut bench)?;
    }
    report::print_summary(&bench.rows);
    println!("\nmeasured in {} s", bench.plan.seconds());
    if bench.plan.is_late() {
        println!("this took long: the last points have one round only");
    }
    if let Some(path) = &options.json {
        std::fs::write(path, report::json(&setting, &bench.rows))?;
        println!("figures in {}", path.display());
    }
    if let Some(path) = &options.picture {
        std::fs::write(path, report::picture(&setting, &bench.rows))?;
        println!("picture in {}", path.display());
    }
    Ok(())
}

/// One of the peers as the command line names it.
fn peer(text: &str) -> std::result::Result<Peer, String> {
    let (name, program) = text.split_once('=').ok_or("a peer is named as name=program")?;
    Ok(Peer { name: name.to_owned(), program: PathBuf::from(program) })
}

fn first_line(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_owned();
    let output = command.output().map_err(|error| format!("{} cannot be run: {error}", program.display()))?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
}
