//! What a user meets in the first hour: what the program says of itself, the scripts of an instance and every slip that
//! one can make with a copy of it, and warnings about data that nobody keeps.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{PATIENCE, Real, Server, free_port, run, wait_until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_redis-rs");

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn text_of_both(output: &Output) -> String {
    text(&output.stdout) + &text(&output.stderr)
}

#[test]
fn the_program_says_how_it_is_called_and_which_version_it_is() {
    let help = text(&run(Path::new(PROGRAM), &["--help"]).stdout);
    assert!(
        help.starts_with("Usage: redis-rs [/path/to/redis.conf] [-] [--directive value ...]\n"),
        "{help}"
    );
    assert!(help.contains("A Redis server.") && help.contains("--version"), "{help}");
    assert_eq!(text(&run(Path::new(PROGRAM), &["-h"]).stdout), help);
    let version = text(&run(Path::new(PROGRAM), &["--version"]).stdout);
    // As the test programs of clients take it apart.
    assert!(version.starts_with("Redis server v=7.2.4 sha=00000000:0 malloc="), "{version}");
    let ours = format!(" redis-rs={}", env!("CARGO_PKG_VERSION"));
    assert_eq!((version.lines().count(), version.trim_end().ends_with(&ours)), (1, true), "{version}");
    for more in [&["-v"][..], &["--version", "--port", "1"]] {
        assert_eq!(text(&run(Path::new(PROGRAM), more).stdout), version);
    }
}

/// Where the scripts are installed, with the programs of this build.
fn installed(prefix: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let share = prefix.join("share/redis-rs");
    fs::create_dir_all(share.join("tools")).unwrap();
    fs::create_dir_all(prefix.join("bin")).unwrap();
    for script in ["instance.sh", "new-instance.sh", "start.sh", "stop.sh"] {
        fs::copy(root.join("tools").join(script), share.join("tools").join(script)).unwrap();
    }
    fs::copy(root.join("redis.conf.example"), share.join("redis.conf.example")).unwrap();
    for (program, name) in [(PROGRAM, "redis-rs"), (env!("CARGO_BIN_EXE_redis-cli"), "redis-cli")] {
        std::os::unix::fs::symlink(program, prefix.join("bin").join(name)).unwrap();
    }
}

/// An instance's directory. Its server, a daemon, is gone with it.
struct Instance {
    home: PathBuf,
    port: u16,
}

impl Instance {
    fn new(prefix: &Path, home: PathBuf) -> Instance {
        let port = free_port();
        let script = prefix.join("share/redis-rs/tools/new-instance.sh");
        let made = run(&script, &[home.to_str().unwrap(), &port.to_string()]);
        assert!(made.status.success(), "{}", text(&made.stderr));
        Instance { home, port }
    }

    /// `cp -r`: nothing is edited.
    fn copy(&self, home: PathBuf) -> Instance {
        let copied = Command::new("cp").arg("-r").args([&self.home, &home]).status().unwrap();
        assert!(copied.success());
        Instance { home, port: free_port() }
    }

    fn script(&self, name: &str) -> Output {
        run(&self.home.join(name), &[])
    }

    /// Takes the lines of a directive out of the configuration.
    fn remove(&self, name: &str) {
        let file = self.home.join("conf/redis.conf");
        let before = fs::read_to_string(&file).unwrap();
        let kept = before.lines().filter(|line| !line.starts_with(&format!("{name} ")));
        fs::write(&file, kept.map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    }

    /// Replaces a line of the configuration, or adds it.
    fn edit(&self, name: &str, value: &str) {
        self.remove(name);
        let mut file = File::options().append(true).open(self.home.join("conf/redis.conf")).unwrap();
        writeln!(file, "{name} {value}").unwrap();
    }

    fn edit_path(&self, name: &str, path: &str) {
        self.edit(name, self.home.join(path).to_str().unwrap());
    }

    fn pid(&self) -> Option<i32> {
        fs::read_to_string(self.home.join("run/redis.pid")).ok()?.trim().parse().ok()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.home.join("log/redis.log")).unwrap()
    }

    fn ask(&self, words: &[&str]) -> String {
        let port = self.port.to_string();
        text(&run(&self.home.join("redis-cli"), &[&["-p", &port][..], words].concat()).stdout)
    }

    /// The script refuses, and names the line to edit.
    #[track_caller]
    fn refuses(&self, script: &str, named: &str) {
        let output = self.script(script);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{script}: {} {told}", text(&output.stdout));
        assert!(told.contains(named), "{script}: {told:?} does not say {named:?}");
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // Only a process that runs this instance's program: the pid file may be another's.
        if let Some(pid) = self.pid()
            && fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.starts_with(&self.home))
        {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

#[test]
fn a_copied_instance_is_not_taken_for_the_one_it_was_copied_from() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().canonicalize().unwrap();
    installed(&base.join("prefix"));
    let first = Instance::new(&base.join("prefix"), base.join("redis"));
    assert!(first.script("start.sh").status.success());
    assert!(text(&first.script("start.sh").stdout).starts_with("Already running with pid "));

    // Every line that has to be edited is named, one after the other, and the first instance is left alone.
    let second = first.copy(base.join("redis-slave1"));
    for script in ["start.sh", "stop.sh"] {
        second.refuses(script, "The dir line of ");
    }
    second.edit_path("dir", "db");
    for script in ["start.sh", "stop.sh"] {
        second.refuses(script, "The pidfile line of ");
        second.refuses(script, &format!("pidfile {}", second.home.join("run/redis.pid").display()));
    }
    second.edit_path("pidfile", "run/redis.pid");
    // Copied with a pid file that tells of the first one's server.
    assert!(second.pid() == first.pid() && first.pid().is_some());
    assert_eq!(text(&second.script("stop.sh").stdout), "Not running.\n");
    second.refuses("start.sh", "Edit the port line of ");
    second.edit("port", &second.port.to_string());
    assert_eq!(first.ask(&["ping"]), "PONG\n");

    let started = second.script("start.sh");
    assert!(started.status.success(), "{}{}", text(&started.stdout), text(&started.stderr));
    assert_eq!(second.ask(&["ping"]), "PONG\n");
    // With a password, and a line that became wrong while it runs, it is still known.
    second.edit("requirepass", "secret");
    assert!(text(&second.script("start.sh").stdout).starts_with("Already running with pid "));
    assert!(text(&second.script("stop.sh").stdout).starts_with("Stopped (pid "));
    assert_eq!(first.ask(&["ping"]), "PONG\n");
    assert!(text(&first.script("stop.sh").stdout).starts_with("Stopped (pid "));
    // The first one does not run; what is its own stays its own.
    second.edit_path("dir", "../redis");
    second.refuses("start.sh", "The dir line of ");
}

#[test]
fn slips_in_the_lines_of_a_copy_are_named_and_nothing_else_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().canonicalize().unwrap();
    installed(&base.join("prefix"));
    let first = Instance::new(&base.join("prefix"), base.join("redis"));
    assert!(first.script("start.sh").status.success());
    let copy = first.copy(base.join("copy"));
    let port = copy.port.to_string();
    let right = |copy: &Instance| {
        copy.edit("port", &port);
        copy.edit_path("pidfile", "run/redis.pid");
        copy.edit_path("dir", "db");
        copy.edit("slaveof", &format!("127.0.0.1 {}", first.port));
    };
    let run_dir = copy.home.join("run").display().to_string();
    let slips = [
        ("port", "6379x", "argument couldn't be parsed into an integer"),
        ("slaveof", "127.0.0.1:6379", "wrong number of arguments"),
        ("slaveof", &format!("localhost {port}"), "names this instance itself"),
        ("port", &first.port.to_string(), "Edit the port line, if "),
        ("slaveof=127.0.0.1", "6379", "Bad directive"),
        ("dir", "/no/such/directory", "Edit that line; for this instance it is: dir "),
        ("pidfile", "/no/such/directory/redis.pid", "Edit that line; for this instance it is: pidfile "),
        ("pidfile", &run_dir, "which is a directory"),
        ("logfile", "../logs/redis.log", "for this instance it is: logfile ../log/redis.log"),
    ];
    for (name, value, named) in slips {
        right(&copy);
        copy.edit("logfile", "../log/redis.log");
        copy.remove("slaveof=127.0.0.1");
        copy.edit(name, value);
        copy.refuses("start.sh", named);
        let told = text(&copy.script("start.sh").stderr);
        // The log was copied too: what stands in it is of the first one.
        assert!(!told.contains("last lines") && !told.contains("can't cd"), "{name} {value}: {told}");
    }
    copy.edit("logfile", "../log/redis.log");
    right(&copy);
    copy.edit("bind", "192.0.2.1");
    copy.refuses("start.sh", "Cannot assign requested address");
    copy.edit("bind", "127.0.0.1");
    assert!(copy.script("start.sh").status.success());
    assert!(copy.script("stop.sh").status.success() && first.script("stop.sh").status.success());
}

/// A file that was edited on another system, a name with a space, a link to the script, a server without PING.
#[test]
fn an_instance_starts_wherever_it_stands_and_however_its_file_was_edited() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().canonicalize().unwrap();
    installed(&base.join("prefix"));
    let first = Instance::new(&base.join("prefix"), base.join("my redis"));
    let copy = first.copy(base.join("my copy"));
    // What it says to write can be written so: with the quotes.
    copy.refuses("start.sh", &format!("for this instance it is: dir \"{}/db\"\n", copy.home.display()));
    copy.edit("dir", &format!("\"{}/db\"", copy.home.display()));
    copy.edit("pidfile", &format!("'{}/run/redis.pid'", copy.home.display()));
    copy.edit("PORT", &copy.port.to_string());
    let file = copy.home.join("conf/redis.conf");
    let text_of_file = fs::read_to_string(&file).unwrap();
    fs::write(&file, text_of_file.replace('\n', " \t\r\n")).unwrap();
    let link = base.join("start-the-copy");
    std::os::unix::fs::symlink(copy.home.join("start.sh"), &link).unwrap();
    let told = text(&run(&link, &[]).stdout);
    assert!(told.starts_with("Started with pid "), "{told}");
    assert!(told.contains("It is a master: no line of its configuration names one"), "{told}");
    assert_eq!(copy.ask(&["ping"]), "PONG\n");
    assert!(text(&copy.script("stop.sh").stdout).starts_with("Stopped (pid "));
    fs::write(&file, text_of_file + "rename-command PING \"\"\n").unwrap();
    let told = text_of_both(&copy.script("start.sh"));
    assert!(told.starts_with("Started with pid "), "{told}");
    assert!(text(&copy.script("stop.sh").stdout).starts_with("Stopped (pid "));
    for (missing, script) in
        [("redis-cli", "start.sh"), ("redis-rs", "stop.sh"), ("conf/redis.conf", "start.sh")]
    {
        fs::rename(copy.home.join(missing), base.join("aside")).unwrap();
        fs::create_dir(copy.home.join(missing)).unwrap();
        copy.refuses(script, &copy.home.join(missing).display().to_string());
        fs::remove_dir(copy.home.join(missing)).unwrap();
        fs::rename(base.join("aside"), copy.home.join(missing)).unwrap();
    }
}

/// Neither script waits for ever for somebody who says nothing, or for a server that has said that it will not stop.
#[test]
fn who_does_not_answer_or_does_not_stop_is_told_of_within_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().canonicalize().unwrap();
    installed(&base.join("prefix"));
    let instance = Instance::new(&base.join("prefix"), base.join("redis"));
    let silent = std::net::TcpListener::bind(("127.0.0.1", instance.port)).unwrap();
    let output = Command::new(instance.home.join("start.sh")).env("CLI_SECONDS", "1").output().unwrap();
    let told = text_of_both(&output);
    assert!(!output.status.success() && told.contains("Address already in use"), "{told}");
    drop(silent);

    assert!(instance.script("start.sh").status.success());
    instance.ask(&["set", "a", "1"]);
    // The dump cannot be put in its place.
    fs::create_dir_all(instance.home.join("db/dump.rdb/x")).unwrap();
    instance.refuses("stop.sh", "has not stopped. Its log tells why:");
    instance.refuses("stop.sh", "Error trying to save the DB, can't exit.");
    assert_eq!(instance.ask(&["get", "a"]), "1\n");
    fs::remove_dir_all(instance.home.join("db/dump.rdb")).unwrap();
    assert!(text(&instance.script("stop.sh").stdout).starts_with("Stopped (pid "));
}

#[test]
fn the_start_of_a_replica_says_whether_it_has_its_masters_data() {
    let master = Server::start(&[("repl-diskless-sync", "yes"), ("repl-diskless-sync-delay", "1")]);
    master.query::<()>(&["SET", "key", "value"]);
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().canonicalize().unwrap();
    installed(&base.join("prefix"));
    let replica = Instance::new(&base.join("prefix"), base.join("replica"));
    replica.edit("slaveof", &format!("127.0.0.1 {}", master.port()));
    let told = text(&replica.script("start.sh").stdout);
    assert!(
        told.ends_with(&format!("It has the data of its master 127.0.0.1:{}.\n", master.port())),
        "{told}"
    );
    assert_eq!(replica.ask(&["get", "key"]), "value\n");
    assert!(replica.script("stop.sh").status.success());

    replica.edit("slaveof", &format!("127.0.0.1 {}", free_port()));
    let output = Command::new(replica.home.join("start.sh")).env("LINK_SECONDS", "1").output().unwrap();
    let told = text(&output.stdout);
    assert!(output.status.success() && told.contains("It does not have the data of its master"), "{told}");
    assert!(told.contains("info replication") && told.contains("Connection refused"), "{told}");
    wait_until("the replica is stopped", PATIENCE, || replica.script("stop.sh").status.success());
}

/// The classic rule, that a file without a `save` line saves nothing, must not be learnt from the loss.
#[test]
fn whose_data_nobody_saves_is_told_so_at_the_start_and_at_the_stop() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().canonicalize().unwrap();
    installed(&base.join("prefix"));
    let instance = Instance::new(&base.join("prefix"), base.join("redis"));
    // One run: its log, with 3 changes made and the server stopped.
    let run = || {
        let _ = fs::remove_file(instance.home.join("log/redis.log"));
        assert!(instance.script("start.sh").status.success());
        instance.ask(&["mset", "a", "1", "b", "2"]);
        instance.ask(&["del", "a"]);
        assert!(instance.script("stop.sh").status.success());
        instance.log()
    };
    let (start, stop) =
        ("# WARNING no save points: data is kept in memory only", "3 changes since the last save are lost");
    let log = run();
    assert!(
        !log.contains("save points") && !log.contains("are lost") && log.contains("DB saved on disk"),
        "{log}"
    );

    instance.remove("save");
    let log = run();
    assert!(log.contains(start) && log.contains(&format!("# WARNING no save points: {stop}")), "{log}");
    // Who says that nothing is to be saved means it.
    instance.edit("save", "\"\"");
    let log = run();
    assert!(!log.contains(start) && log.contains("* No save points: data is kept in memory only."), "{log}");
    assert!(log.contains(stop), "{log}");
    instance.edit("shutdown-on-sigterm", "nosave");
    assert!(run().contains(&format!("* Leaving without saving, as asked: {stop}")));
    // Without changes there is nothing to tell of.
    let _ = fs::remove_file(instance.home.join("log/redis.log"));
    assert!(instance.script("start.sh").status.success() && instance.script("stop.sh").status.success());
    assert!(!instance.log().contains("lost"), "{}", instance.log());
}

/// The scripts refuse a copy whose `dir` was not edited; who starts it by hand hears of it too.
#[test]
fn two_servers_in_one_directory_are_told_of_as_long_as_there_are_two() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().canonicalize().unwrap().display().to_string();
    let warning =
        format!("# WARNING another server works in {at} too: unless dbfilename and appenddirname differ");
    let first = Server::start(&[("dir", &at), ("logfile", "first.log"), ("save", "3600 1")]);
    let log = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap_or_default();
    let second = Server::start(&[
        ("dir", &at),
        ("logfile", "second.log"),
        ("dbfilename", "second.rdb"),
        ("enable-protected-configs", "yes"),
    ]);
    assert!(
        log("second.log").contains(&warning) && !log("first.log").contains("another server"),
        "{}",
        log("second.log")
    );
    // A child that outlives the first one does not hold its place.
    first.query::<()>(&["CONFIG", "SET", "rdb-key-save-delay", "100000"]);
    first.query::<()>(&["MSET", "a", "1", "b", "2", "c", "3"]);
    first.query::<()>(&["BGSAVE"]);
    drop(first);
    let aside = tempfile::tempdir().unwrap();
    let warned = || log("second.log").matches(&warning).count();
    // A child that has just been forked still holds what it is about to close.
    wait_until("the place is free", PATIENCE, || {
        let before = warned();
        second.query::<()>(&["CONFIG", "SET", "dir", aside.path().to_str().unwrap()]);
        second.query::<()>(&["CONFIG", "SET", "dir", &at]);
        warned() == before
    });
    let _third = Server::start(&[("dir", &at), ("logfile", "third.log"), ("dbfilename", "third.rdb")]);
    assert!(log("third.log").contains(&warning));
}

/// With real servers too, `appendonly` that is changed in the file means that the other kind of file is not loaded; who is
/// not told loses it at the next save.
#[test]
fn data_that_a_changed_line_leaves_aside_is_told_of_while_it_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().canonicalize().unwrap();
    installed(&base.join("prefix"));
    let instance = Instance::new(&base.join("prefix"), base.join("redis"));
    let dump = instance.home.join("db/dump.rdb");
    let start = |appendonly: &str| {
        let _ = fs::remove_file(instance.home.join("log/redis.log"));
        instance.edit("appendonly", appendonly);
        assert!(instance.script("start.sh").status.success());
        instance.log()
    };
    let log = start("no");
    let none = format!("* There is no {}: the data set is empty", dump.display());
    assert!(log.contains(&none) && !log.contains("WARNING appendonly"), "{log}");
    instance.ask(&["set", "a", "1"]);
    assert!(instance.script("stop.sh").status.success());
    let log = start("yes");
    let left =
        format!("# WARNING appendonly is yes and there was no append-only file: {} is not", dump.display());
    assert!(log.contains(&left) && instance.ask(&["get", "a"]) == "\n", "{log}");
    // What it says to do brings the data back.
    instance.ask(&["shutdown", "nosave"]);
    wait_until("it has ended", PATIENCE, || instance.pid().is_none());
    let log = start("no");
    // The new files are empty of data, but not of bytes.
    assert!(log.contains("# WARNING appendonly is no: the append-only files in "), "{log}");
    assert_eq!(instance.ask(&["get", "a"]), "1\n");
    assert_eq!(instance.ask(&["config", "set", "appendonly", "yes"]), "OK\n");
    assert_eq!(instance.ask(&["config", "rewrite"]), "OK\n");
    wait_until("the files are written", PATIENCE, || {
        instance.ask(&["info", "persistence"]).contains("aof_rewrite_in_progress:0")
    });
    assert!(instance.script("stop.sh").status.success());
    // The dump of the stop is as new as the files: whichever is loaded, nothing is missing.
    let log = start("no");
    assert!(!log.contains("WARNING appendonly") && instance.ask(&["get", "a"]) == "1\n", "{log}");
    assert!(instance.script("stop.sh").status.success());
    let log = start("yes");
    assert!(!log.contains("WARNING appendonly") && instance.ask(&["get", "a"]) == "1\n", "{log}");
    assert!(instance.script("stop.sh").status.success());
}

/// Whether the unit is one that systemd takes, without a remark; and what it says of who may read the configuration.
#[test]
fn the_systemd_unit_is_understood_and_keeps_the_configuration_to_the_service() {
    let dir = tempfile::tempdir().unwrap();
    let prefix = dir.path().canonicalize().unwrap();
    installed(&prefix);
    let text = include_str!("../tools/redis-rs.service").replace("@PREFIX@", prefix.to_str().unwrap());
    let unit = prefix.join("redis-rs.service");
    fs::write(&unit, &text).unwrap();
    let analyze = Real::tool("systemd-analyze");
    let verified = run(&analyze, &["verify", "--man=no", unit.to_str().unwrap()]);
    let told = text_of_both(&verified);
    // Remarks about units of the machine it runs on are none of ours.
    let ours: Vec<&str> = told.lines().filter(|line| line.contains("redis-rs")).collect();
    assert!(verified.status.success() && ours.is_empty(), "{told}");
    let etc = prefix.join("etc/redis-rs");
    for line in [
        format!("ExecStartPre=+/bin/chmod -R u=rwX,go= {}", etc.display()),
        format!("ExecStartPre=+/bin/chown -R --reference=/var/lib/redis-rs/. {}", etc.display()),
        format!("ExecStopPost=+/bin/chown -R root:root {}", etc.display()),
        format!("ReadWritePaths={}", etc.display()),
        "LogsDirectory=redis-rs".to_owned(),
    ] {
        assert!(text.lines().any(|known| known == line), "{line}");
    }
    assert!(include_str!("../Makefile").contains("install -m 600 redis.conf.example"));
}
