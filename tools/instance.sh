# What start.sh and stop.sh know of the instance in whose directory they stand. Read by them, not run.
# It needs nothing but a POSIX shell, coreutils, grep and sed.

# The scripts find their own directory, so an instance can be copied or moved.
home=$(cd "$(dirname "$0")" && pwd -P) || exit 1
conf=$home/conf/redis.conf
[ -r "$conf" ] || { echo "There is no readable $conf." >&2; exit 1; }

# directive NAME: its value in the configuration file; the last one counts, as for the server.
directive() {
    sed -n "s/^[[:space:]]*$1[[:space:]][[:space:]]*//Ip" "$conf" | tail -n 1 |
        sed 's/[[:space:]]*$//; s/^"\(.*\)"$/\1/; s/^'\''\(.*\)'\''$/\1/'
}

port=$(directive port)
port=${port:-6379}
unixsocket=$(directive unixsocket)
pidfile=$(directive pidfile)
pidfile=${pidfile:-/var/run/redis.pid}
dir=$(directive dir)
# Relative paths in the file are relative to where the server is started, which is here.
dir=$(cd "$home" && cd "${dir:-.}" && pwd -P) || { echo "The dir of $conf does not exist." >&2; exit 1; }
logfile=$(directive logfile)
case $logfile in
    '' | /*) ;;
    *) logfile=$dir/$logfile ;; # the server has entered its dir when it opens the log
esac
case $pidfile in
    /*) ;;
    *) pidfile=$dir/$pidfile ;;
esac

# The first address that the server binds; one that means "all" is reached by the loopback.
host=$(directive bind)
host=${host%% *}
host=${host#-}
case $host in
    '' | '*' | 0.0.0.0) host=127.0.0.1 ;;
    '::' | '::*') host=::1 ;;
esac

cli() {
    if [ "$port" = 0 ] && [ -n "$unixsocket" ]; then
        "$home/redis-cli" -s "$unixsocket" "$@"
    else
        "$home/redis-cli" -h "$host" -p "$port" "$@"
    fi
}

# answers: whether some server answers there; that it loads, or wants a password, is an answer.
answers() {
    case $(cli ping 2>&1 </dev/null) in
        *PONG* | *LOADING* | *NOAUTH* | *NOPERM* | *MASTERDOWN* | *BUSY* | *MISCONF*) return 0 ;;
        *) return 1 ;;
    esac
}

where() {
    if [ "$port" = 0 ] && [ -n "$unixsocket" ]; then echo "$unixsocket"; else echo "$host:$port"; fi
}

# alive PID: whether there is such a process. One that has ended and waits for its parent to notice is not alive.
alive() {
    [ -n "$1" ] && [ -d "/proc/$1" ] && ! grep -q '^State:[[:space:]]*Z' "/proc/$1/status" 2>/dev/null
}

# ours PID: whether that process is a redis-rs that works in this instance's dir.
ours() {
    alive "$1" && [ "$(cat "/proc/$1/comm" 2>/dev/null)" = redis-rs ] &&
        [ "$(readlink "/proc/$1/cwd" 2>/dev/null)" = "$dir" ]
}

pid_of_file() {
    sed -n '1s/^[[:space:]]*\([0-9][0-9]*\)[[:space:]]*$/\1/p' "$pidfile" 2>/dev/null
}

# running_pid: the pid of this instance's server, from the pid file; or, when that is missing or tells of something
# else (it was copied with the instance, or left by a crash), from the processes themselves.
running_pid() {
    pid=$(pid_of_file)
    if ours "$pid"; then
        echo "$pid"
        return
    fi
    for process in /proc/[0-9]*; do
        read -r name 2>/dev/null < "$process/comm" || continue
        [ "$name" = redis-rs ] && ours "${process#/proc/}" && echo "${process#/proc/}" && return
    done
    return 1
}

# A pid file outside of the instance that names another living redis-rs is somebody else's: most likely the instance was
# copied and its pidfile line was not edited.
refuse_foreign_pidfile() {
    pid=$(pid_of_file)
    case $pidfile in "$home"/*) return ;; esac
    if alive "$pid" && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = redis-rs ] && ! ours "$pid"; then
        echo "The pidfile $pidfile belongs to another instance (pid $pid). Edit the pidfile line of $conf." >&2
        exit 1
    fi
}
