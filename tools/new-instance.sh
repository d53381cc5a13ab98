#!/bin/sh
# new-instance.sh DIR PORT [--replica-of HOST PORT]: a directory that holds all of one server: conf/redis.conf, db/, run/, log/, start.sh, stop.sh
# and the binaries. To get another one, copy the directory and edit port, pidfile and dir in its conf/redis.conf (and
# slaveof, for a replica): the log follows dir, and the scripts find their own directory.
set -u

usage() {
    [ $# -eq 0 ] || echo "new-instance.sh: $1" >&2
    echo "Usage: new-instance.sh DIR PORT [--replica-of HOST PORT]    (such as: new-instance.sh /srv/redis 6379)" >&2
    exit 2
}
fail() {
    echo "new-instance.sh: $1" >&2
    exit 1
}

# is_port TEXT
is_port() {
    case $1 in
        '' | *[!0-9]* | ??????*) return 1 ;;
    esac
    [ "$1" -ge 1 ] && [ "$1" -le 65535 ]
}

master=
if [ $# -eq 5 ] && [ "$3" = --replica-of ]; then
    case $4 in
        '' | -* | *[!A-Za-z0-9.:_-]*) usage "'$4' is not a host." ;;
    esac
    is_port "$5" || usage "'$5' is not a port from 1 to 65535."
    master="$4 $5"
elif [ $# -ne 2 ]; then
    usage
fi
case $1 in
    '') usage "the directory has no name." ;;
    -*) usage "unknown option $1." ;;
    *[\"\'\\]*) usage "the directory's name must be without quotes and backslashes." ;;
esac
is_port "$2" || usage "'$2' is not a port from 1 to 65535."
port=$2

# In the repository the binaries stand one floor above; installed, in PREFIX/bin, two floors above PREFIX/share/redis-rs.
tools=$(cd "$(dirname "$(readlink -f "$0")")" && pwd -P) || exit 1
root=${tools%/*}
bin=$root
[ -x "$bin/redis-rs" ] || bin=$(cd "$root/../../bin" 2>/dev/null && pwd -P)
{ [ -x "$bin/redis-rs" ] && [ -x "$bin/redis-cli" ]; } || fail "redis-rs is not built yet: run make in $root first."
[ -r "$root/redis.conf.example" ] || fail "$root/redis.conf.example is missing."

if [ -e "$1/conf/redis.conf" ]; then fail "$1 is an instance already; it stays as it is."; fi
if [ -e "$1" ] && [ ! -d "$1" ]; then fail "$1 is not a directory."; fi
mkdir -p "$1" || exit 1
home=$(cd "$1" && pwd -P) || exit 1
mkdir -p "$home/conf" "$home/db" "$home/run" "$home/log" || exit 1

# quoted VALUE: as the configuration file wants it.
quoted() {
    case $1 in
        *[!A-Za-z0-9/._-]*) printf '"%s"' "$1" ;;
        *) printf '%s' "$1" ;;
    esac
}

# The example's own lines are replaced where they stand, below their explanation; those it lacks are appended.
wanted="port daemonize pidfile dir logfile${master:+ slaveof}"
value_of() {
    case $1 in
        port) echo "$port" ;;
        daemonize) echo yes ;;
        pidfile) quoted "$home/run/redis.pid" ;;
        dir) quoted "$home/db" ;;
        # Relative to dir, so that it follows when the instance is copied.
        logfile) echo ../log/redis.log ;;
        slaveof) echo "$master" ;;
    esac
}
{
    done_already=" "
    while IFS= read -r line || [ -n "$line" ]; do
        for name in $wanted; do
            case $line in
                "$name "*)
                    # A second line of the same name would undo the first.
                    case $done_already in *" $name "*) continue 2 ;; esac
                    line="$name $(value_of "$name")"
                    done_already="$done_already$name "
                    break
                    ;;
            esac
        done
        printf '%s\n' "$line"
    done < "$root/redis.conf.example"
    for name in $wanted; do
        case $done_already in
            *" $name "*) ;;
            *) printf '%s %s\n' "$name" "$(value_of "$name")" ;;
        esac
    done
} > "$home/conf/redis.conf.new" || exit 1

cp "$bin/redis-rs" "$bin/redis-cli" "$tools/start.sh" "$tools/stop.sh" "$tools/instance.sh" "$home/" || exit 1
chmod 755 "$home/start.sh" "$home/stop.sh"
# The configuration appears last: it is what makes the directory an instance.
mv "$home/conf/redis.conf.new" "$home/conf/redis.conf" || exit 1

echo "Made $home for port $port${master:+, a replica of $master}. Start it with $home/start.sh, stop it with $home/stop.sh."
