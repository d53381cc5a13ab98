#!/bin/bash
# The walk-through of the README, done unattended: a master and two replicas as daemons, from tools/new-instance.sh to
# stop.sh, on free ports in a temporary directory. Each step is printed with what it showed; status 0 only if all held.
set -u
tools=$(cd "$(dirname "$0")" && pwd -P) || exit 1
work=$(mktemp -d "${TMPDIR:-/tmp}/redis-rs-demo.XXXXXX") || exit 1
master=$work/redis
slave1=$work/redis-slave1
slave2=$work/redis-slave2

clean_up() {
    status=$?
    for home in "$slave2" "$slave1" "$master"; do
        [ -x "$home/stop.sh" ] && STOP_SECONDS=20 "$home/stop.sh" >/dev/null 2>&1
    done
    if [ "$status" -eq 0 ]; then
        rm -rf "$work"
    else
        echo "The demo failed; what it left is in $work." >&2
    fi
    exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

step() { printf '\n=== %s\n' "$*"; }
say() { printf '    %s\n' "$*"; }
fail() {
    echo "FAILED: $*" >&2
    exit 1
}
# run COMMAND...: shows the command and what it printed; its failure is the demo's.
run() {
    echo "\$ $*"
    output=$("$@" 2>&1)
    result=$?
    [ -z "$output" ] || printf '%s\n' "$output" | sed 's/^/    /'
    [ "$result" -eq 0 ] || fail "'$*' ended with status $result"
}
# expect TEXT COMMAND...: the command prints exactly this.
expect() {
    local wanted=$1
    shift
    run "$@"
    [ "$output" = "$wanted" ] || fail "expected '$wanted' from '$*'"
}
# becomes TEXT COMMAND...: within 30 seconds the command's output contains this.
becomes() {
    local wanted=$1 tries=0
    shift
    until output=$("$@" 2>&1) && [[ $output == *"$wanted"* ]]; do
        [ "$((tries += 1))" -lt 300 ] || fail "'$*' never showed '$wanted', but: $output"
        sleep 0.1
    done
}
free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 10000))
        [[ " ${ports[*]-} " == *" $port "* ]] && continue
        # Nobody listens where a connection is refused.
        (exec 3<> "/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    ports+=("$port")
}

ports=()
free_port; free_port; free_port
port0=${ports[0]} port1=${ports[1]} port2=${ports[2]}

step "1. A new instance for the master"
run "$tools/new-instance.sh" "$master" "$port0"
run ls "$master"

step "2. Two copies of it, four lines edited in each"
for slave in "$slave1 $port1" "$slave2 $port2"; do
    read -r home port <<< "$slave"
    run cp -r "$master" "$home"
    sed -i -e "s|^port .*|port $port|" -e "s|^pidfile .*|pidfile $home/run/redis.pid|" -e "s|^dir .*|dir $home/db|" \
        "$home/conf/redis.conf"
    echo "slaveof 127.0.0.1 $port0" >> "$home/conf/redis.conf"
    grep -E '^(port|pidfile|dir|slaveof) ' "$home/conf/redis.conf" | sed 's/^/    /'
done

step "3. start.sh in each, twice: the second time it says that the server runs"
for home in "$master" "$slave1" "$slave2"; do run "$home/start.sh"; done
for home in "$master" "$slave1" "$slave2"; do
    run "$home/start.sh"
    [[ $output == "Already running with pid "* ]] || fail "the second start said otherwise"
done

step "4. Three listening ports under a process named redis-rs"
for home in "$master" "$slave1" "$slave2"; do
    pid=$(cat "$home/run/redis.pid")
    [ "$(cat "/proc/$pid/comm")" = redis-rs ] || fail "process $pid has another name"
done
for port in "${ports[@]}"; do
    if command -v ss >/dev/null; then
        line=$(ss -Hnltp "sport = :$port")
        [[ $line == *\"redis-rs\"* ]] || fail "ss shows no redis-rs listening at $port: $line"
    elif command -v netstat >/dev/null; then
        line=$(netstat -nlpt 2>/dev/null | grep ":$port ")
        [[ $line == *redis-rs* ]] || fail "netstat shows no redis-rs listening at $port: $line"
    else
        # Without either tool the kernel is asked: state 0A is LISTEN, ports are in hexadecimal.
        line=$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep -iE "$(printf ':%04X [0-9A-F:]+ 0A ' "$port")")
        [ -n "$line" ] || fail "nobody listens at $port"
    fi
    while IFS= read -r one; do say "$one"; done <<< "$line"
done

step "5. Written to the master, read from both replicas, with every redis-cli there is"
clients=("$master/redis-cli")
for other in /usr/bin/redis-cli /usr/local/bin/redis-cli; do
    [ -x "$other" ] && clients+=("$other")
done
cli=${clients[0]}
for port in "$port1" "$port2"; do becomes "master_link_status:up" "$cli" -p "$port" info replication; done
say "both replicas are linked"
number=0
for cli in "${clients[@]}"; do
    number=$((number + 1))
    expect OK "$cli" -p "$port0" set "key$number" "val$number"
    for port in "$port1" "$port2"; do
        becomes "val$number" "$cli" -p "$port" get "key$number"
        expect "val$number" "$cli" -p "$port" get "key$number"
    done
done
cli=${clients[0]}
run "$cli" -p "$port0" info replication
[[ $output == *role:master* && $output == *connected_slaves:2* ]] || fail "the master does not know two replicas"
run "$cli" -p "$port1" info replication
[[ $output == *role:slave* && $output == *master_link_status:up* ]] || fail "the replica is not linked"

step "6. A replica killed with -9 comes back and catches up"
pid=$(cat "$slave1/run/redis.pid")
run kill -9 "$pid"
expect OK "$cli" -p "$port0" set key-meanwhile val-meanwhile
becomes "connected_slaves:1" "$cli" -p "$port0" info replication
run "$slave1/start.sh"
becomes "val-meanwhile" "$cli" -p "$port1" get key-meanwhile
expect val-meanwhile "$cli" -p "$port1" get key-meanwhile
expect val1 "$cli" -p "$port1" get key1
becomes "connected_slaves:2" "$cli" -p "$port0" info replication
say "the master has two replicas again"

step "7. The master killed with -9 comes back, and the replicas return to it by themselves"
expect OK "$cli" -p "$port0" save
run kill -9 "$(cat "$master/run/redis.pid")"
run "$master/start.sh"
expect val1 "$cli" -p "$port0" get key1
expect OK "$cli" -p "$port0" set key-after val-after
for port in "$port1" "$port2"; do
    becomes "val-after" "$cli" -p "$port" get key-after
    expect val-after "$cli" -p "$port" get key-after
done

step "8. stop.sh in each, twice"
for home in "$slave2" "$slave1" "$master"; do
    pid=$(cat "$home/run/redis.pid")
    run "$home/stop.sh"
    [ -d "/proc/$pid" ] && ! grep -q '^State:[[:space:]]*Z' "/proc/$pid/status" && fail "process $pid is still there"
    [ -e "$home/run/redis.pid" ] && fail "the pid file is still there"
    expect "Not running." "$home/stop.sh"
done

printf '\nEverything held.\n'
