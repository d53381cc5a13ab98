//! What `--help` and `--version` say.

use std::env;

/// The Redis version that this program matches, and its own.
pub fn version() -> String {
    format!("7.2.4 (redis-rs {})", env!("CARGO_PKG_VERSION"))
}

pub fn help() -> String {
    format!("redis-cli {}\n\n{HELP}", version())
}

const HELP: &str = r#"Usage: redis-cli [OPTIONS] [cmd [arg [arg ...]]]

Without a command, redis-cli reads commands: from the keyboard with editing, history and hints, or line by line from
standard input when that is not a terminal. Type "help" at the prompt for help on commands.

Where the server is, and how to enter (-p6379 is the same as -p 6379):
  -h <hostname>      Host of the server (default: 127.0.0.1).
  -p <port>          Port of the server (default: 6379).
  -s <socket>        Unix socket of the server, instead of host and port.
  -u <uri>           All in one: redis://[[user:]password@][host[:port]][/db]
  -a <password>      Password. The environment variable REDISCLI_AUTH is safer; -a wins over it.
  --pass <password>  The same as -a.
  --user <username>  Enter as this ACL user; needs a password.
  --askpass          Ask for the password, instead of -a and REDISCLI_AUTH.
  --no-auth-warning  Do not warn of passwords on the command line.
  -n <db>            Database number.
  -t <seconds>       Give up connecting after so long; decimals allowed, 0 for the system's own limit.
  -c                 Follow the redirections of a cluster (MOVED, ASK).
  -2                 Speak RESP2.
  -3                 Speak RESP3.

The command:
  -r <repeat>        Run the command so many times, -1 for ever.
  -i <interval>      Wait so many seconds after each run; decimals allowed. Also between the rounds of --scan and
                     --stat, and after every 100 rounds of --bigkeys and --memkeys.
  -x                 Take the last argument from standard input.
  -X <tag>           Replace the argument <tag> by what standard input has.
  --quoted-input     Arguments are quoted strings, as in '"\x00\xff"'.
  -e                 End with status 1 when the reply is an error, and print it to standard error.

How replies look:
  --raw              Plain strings (default when standard output is not a terminal).
  --no-raw           Typed and quoted replies, wherever they go.
  --csv              Comma-separated values.
  --json             JSON; speaks RESP3 unless -2 is given.
  --quoted-json      JSON whose strings are quoted so that any bytes are ASCII.
  -d <delimiter>     Between the elements of a raw reply (default: \n).
  -D <delimiter>     After each raw reply (default: \n).
  --show-pushes <yn> Whether to show RESP3 push messages (default: yes on a terminal).

Instead of a command:
  --eval <file>      Run the script in the file: redis-cli --eval file.lua key1 key2 , arg1 arg2
  --scan             List the keys by SCAN.
  --pattern <pat>    Only keys that match; for --scan and --bigkeys.
  --quoted-pattern <pat>  The same as --pattern, with quoting.
  --type <type>      Only keys of this type; for --scan.
  --count <count>    COUNT of each SCAN (default: 10).
  --stat             A line of figures about the server every second (or -i).
  --latency          Measure the time of PING. On a terminal for ever; otherwise for one second (or -i), then one line.
  --latency-history  Like --latency, a line every 15 seconds (or -i).
  --latency-dist     Show the times of PING as a spectrum, a line every second (or -i); --mono: in greys.
  --intrinsic-latency <sec>  Measure for so long how long this machine lets a busy program wait; run it where the
                     server runs. No server is needed.
  --lru-test <keys>  Write and read so many keys, some far more often than others, and show how many are there: what
                     an eviction policy is worth.
  --pipe             Send commands in protocol form from standard input as fast as they go.
  --pipe-timeout <n> Give up when the last reply of --pipe does not come for so long (default: 30, 0 for never).
  --rdb <filename>   Fetch a dump from the server into a file; "-" is standard output.
  --functions-rdb <filename>  The same for the functions alone, without the keys.
  --replica          Pose as a replica and show the commands that the master sends.
  --hotkeys          Look for the keys that are asked for most; the server needs a maxmemory-policy of LFU.
  --bigkeys          Look for the keys with the most elements.
  --memkeys          Look for the keys with the most memory.
  --memkeys-samples <n>  The same, sampling so many elements of each key.

  --verbose          Say more (in --test_hint_file).
  --help             This text.
  --version          The version.

Examples:
  cat /etc/passwd | redis-cli -x set mypasswd
  redis-cli -D "" --raw dump key > key.dump && redis-cli -X tag restore key2 0 tag replace < key.dump
  redis-cli -r 100 -i 1 info | grep used_memory_human:
  redis-cli --quoted-input set '"null-\x00-separated"' value
  redis-cli --scan --pattern '*:12345*'
"#;
