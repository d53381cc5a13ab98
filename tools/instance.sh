# What start.sh and stop.sh know of the instance in whose directory they stand. Read by them, not run.
# It needs nothing but a POSIX shell, coreutils, grep and sed.

# The scripts find their own directory, so an instance can be copied or moved.
home=$(cd "$(dirname "$(readlink -f "$0")")" && pwd -P) || exit 1
conf=$home/conf/redis.conf
{ [ -f "$conf" ] && [ -r "$conf" ]; } || { echo "There is no readable $conf." >&2; exit 1; }
for program in redis-rs redis-cli; do
    { [ -f "$home/$program" ] && [ -x "$home/$program" ]; } || { echo "$home/$program is not there, or may not be run: copy it there." >&2; exit 1; }
done
cli_seconds=${CLI_SECONDS:-5}

# quoted PATH: as the configuration file wants it.
quoted() {
    case $1 in
        *[!A-Za-z0-9/._-]*) printf '"%s"' "$1" ;;
        *) printf '%s' "$1" ;;
    esac
}

# wrong NAME PROBLEM VALUE: the line of that name has that problem; this value is right for this instance.
wrong() {
    echo "The $1 line of $conf names $2." >&2
    echo "Edit that line; for this instance it is: $1 $(quoted "$3")" >&2
    exit 1
}

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
dir=$(cd "$home" && cd "${dir:-.}" 2>/dev/null && pwd -P) ||
    wrong dir "$(directive dir), which is no directory that can be entered" "$home/db"
logfile=$(directive logfile)
case $logfile in
    '' | /*) ;;
    *) logfile=$dir/$logfile ;; # the server has entered its dir when it opens the log
esac
if [ -n "$logfile" ] && logs=$(cd "$(dirname "$logfile")" 2>/dev/null && pwd -P); then
    logfile=$logs/${logfile##*/}
fi
case $pidfile in
    /*) ;;
    *) pidfile=$dir/$pidfile ;;
esac

# What stands in the log before is of an earlier run, or of the instance that this one was copied from.
logged=$(wc -c 2>/dev/null < "$logfile" || echo 0)
log_since() {
    [ ! -r "$logfile" ] || tail -c "+$((logged + 1))" "$logfile"
}

# The first address that the server binds; one that means "all" is reached by the loopback.
host=$(directive bind)
host=${host%% *}
host=${host#-}
case $host in
    '' | '*' | 0.0.0.0) host=127.0.0.1 ;;
    '::' | '::*') host=::1 ;;
esac

# The password that clients need, if the file has one; redis-cli takes it from the environment.
REDISCLI_AUTH=$(directive requirepass)
export REDISCLI_AUTH
[ -n "$REDISCLI_AUTH" ] || unset REDISCLI_AUTH

# Whoever takes the connection and says nothing is given some seconds.
cli() {
    if [ "$port" = 0 ] && [ -n "$unixsocket" ]; then
        timeout "$cli_seconds" "$home/redis-cli" -s "$unixsocket" "$@"
    else
        timeout "$cli_seconds" "$home/redis-cli" -h "$host" -p "$port" "$@"
    fi
}

# answers: whether some server answers there; that it loads, or wants a password, or knows no PING, is an answer.
answers() {
    case $(cli ping 2>&1 </dev/null) in
        *PONG* | *LOADING* | *NOAUTH* | *NOPERM* | *MASTERDOWN* | *BUSY* | *MISCONF* | *'unknown command'*) return 0 ;;
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

# The executable, which is the instance's own unless somebody made it a link.
executable=$(readlink -f "$home/redis-rs")

# ours PID: whether that process is this instance's server: a redis-rs that runs this instance's executable (which may
# have been replaced since), or, where several instances share one, works in this instance's dir.
ours() {
    alive "$1" && [ "$(cat "/proc/$1/comm" 2>/dev/null)" = redis-rs ] || return 1
    running=$(readlink "/proc/$1/exe" 2>/dev/null)
    [ "${running% (deleted)}" = "$executable" ] || return 1
    case $executable in
        "$home"/*) return 0 ;;
        *) [ "$(readlink "/proc/$1/cwd" 2>/dev/null)" = "$dir" ] ;;
    esac
}

pid_of_file() {
    sed -n '1s/^[[:space:]]*\([0-9][0-9]*\)[[:space:]]*$/\1/p' "$pidfile" 2>/dev/null
}

# pid_at_port: the pid of the server that answers there, if it was started with this very configuration file.
pid_at_port() {
    cli info server 2>/dev/null </dev/null | tr -d '\r' | sed -n 's/^process_id:/pid /p; s/^config_file:/file /p' | {
        pid=
        while read -r name value; do
            if [ "$name" = pid ]; then pid=$value; fi
            if [ "$name" = file ] && [ "$value" = "$conf" ] && [ -n "$pid" ]; then
                echo "$pid"
                exit 0
            fi
        done
        exit 1
    }
}

# running_pid: the pid of this instance's server: from the pid file; or, when that is missing or tells of something else
# (it was copied with the instance, or left by a crash), from the processes themselves; or from who answers at the port.
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
    pid_at_port
}

# owner_of PATH: the directory of the other instance that this path lies in, if it does.
owner_of() {
    above=$1
    while [ "$above" != / ] && [ -n "$above" ]; do
        above=$(dirname "$above")
        [ "$above" = "$home" ] && return 1
        [ -e "$above/conf/redis.conf" ] && [ -e "$above/start.sh" ] && echo "$above" && return
    done
    return 1
}

# A path of another instance is a line that was not edited after that instance was copied: its server would be stopped,
# its pid file overwritten, its data loaded and saved over.
refuse_foreign_lines() {
    for name in dir pidfile logfile unixsocket; do
        case $name in
            # The dot: it may be the other instance's directory itself.
            dir) value=$dir/. wanted=$home/db ;;
            pidfile) value=$pidfile wanted=$home/run/redis.pid ;;
            logfile) value=$logfile wanted=../log/redis.log ;;
            unixsocket) value=$unixsocket wanted=$home/run/redis.sock ;;
        esac
        case $value in
            /*) ;;
            *) continue ;;
        esac
        # The directory may be reached by links and dots; the file need not be there yet.
        value=$(cd "$(dirname "$value")" 2>/dev/null && pwd -P)/${value##*/}
        if owner=$(owner_of "$value"); then
            wrong "$name" "${value%/.}, which belongs to the instance in $owner" "$wanted"
        fi
    done
    # A pid file outside of every instance that names another living redis-rs is somebody else's all the same.
    case $pidfile in "$home"/*) return ;; esac
    pid=$(pid_of_file)
    if alive "$pid" && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = redis-rs ] && ! ours "$pid"; then
        echo "The pidfile $pidfile belongs to another instance (pid $pid). Edit the pidfile line of $conf." >&2
        exit 1
    fi
}

# Lines with which the server would start, and not be what is wanted.
refuse_useless_lines() {
    # A replica of itself waits for ever for data.
    if master=$(master_of) && [ "${master##*:}" = "$port" ]; then
        case ${master%:*} in
            localhost | 127.* | ::1 | "$host")
                echo "The slaveof line of $conf names this instance itself ($master), since its port is $port too." >&2
                echo "Edit the port line, if $master is the master's; or the slaveof line, which is to name the master." >&2
                exit 1
                ;;
        esac
    fi
    [ -d "$(dirname "$pidfile")" ] || wrong pidfile "$pidfile, whose directory is not there" "$home/run/redis.pid"
    [ ! -d "$pidfile" ] || wrong pidfile "$pidfile, which is a directory" "$home/run/redis.pid"
    [ -z "$logfile" ] || [ -d "$(dirname "$logfile")" ] ||
        wrong logfile "$logfile, whose directory is not there" ../log/redis.log
    # A server that cannot save refuses writes, and refuses to stop.
    for place in "$dir" "$(dirname "$pidfile")"; do
        [ -w "$place" ] || { echo "The user $(id -un) may not write to $place, where $conf puts files." >&2; exit 1; }
    done
}

# master_of: host and port of the master that the file names; fails if it names none.
master_of() {
    line=$(grep -iE '^[[:space:]]*(slaveof|replicaof)[[:space:]]' "$conf" | tail -n 1)
    set -- $line
    case "$2 $3" in
        ' ' | [Nn][Oo]\ [Oo][Nn][Ee]) return 1 ;;
        *) echo "$2:$3" | tr -d "\"'" ;;
    esac
}
