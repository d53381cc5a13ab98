#!/bin/sh
# topology.sh [HOST] PORT [--watch SECONDS]: the tree of masters and replicas that a server stands in, drawn from its root:
# address, server and version, role, offset, lag, and the state of each link. With --watch it is drawn again and again.
# A password comes from REDISCLI_AUTH, as for redis-cli. Any node will do: the way up leads by master_host, the way down by
# what each master knows of its replicas.
set -u

usage() {
    [ $# -eq 0 ] || echo "topology.sh: $1" >&2
    echo "Usage: topology.sh [HOST] PORT [--watch SECONDS]" >&2
    exit 2
}

watch=
case $# in
    1) host=127.0.0.1 port=$1 ;;
    2) host=$1 port=$2 ;;
    3) [ "$2" = --watch ] || usage; host=127.0.0.1 port=$1 watch=$3 ;;
    4) [ "$3" = --watch ] || usage; host=$1 port=$2 watch=$4 ;;
    *) usage ;;
esac
case $port in '' | *[!0-9]*) usage "'$port' is not a port." ;; esac
case $watch in *[!0-9.]*) usage "'$watch' is no number of seconds." ;; esac

here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd -P) || exit 1
cli=
for candidate in "$here/redis-cli" "$here/../redis-cli" "$here/../../../bin/redis-cli" "$(command -v redis-cli)"; do
    if [ -x "$candidate" ]; then
        cli=$candidate
        break
    fi
done
[ -n "$cli" ] || { echo "topology.sh: there is no redis-cli." >&2; exit 1; }

# info HOST PORT: what a server says of itself, a field a line, without carriage returns; status 1 if it says nothing.
info() {
    said=$(timeout 3 "$cli" -h "$1" -p "$2" info everything 2>/dev/null </dev/null | tr -d '\r')
    case $said in
        *role:*) printf '%s\n' "$said" ;;
        *) return 1 ;;
    esac
}
# field NAME: of what stands in $said.
field() {
    printf '%s\n' "$said" | sed -n "s/^$1://p" | head -n 1
}

# The root is where no master is named, or where the way up ends.
root_of() {
    at_host=$1 at_port=$2 seen=" "
    while said=$(info "$at_host" "$at_port"); do
        case $seen in *" $at_host:$at_port "*) break ;; esac
        seen="$seen$at_host:$at_port "
        up_host=$(field master_host) up_port=$(field master_port)
        [ -n "$up_host" ] && info "$up_host" "$up_port" >/dev/null || break
        at_host=$up_host at_port=$up_port
    done
    echo "$at_host $at_port"
}

# draw HOST PORT INDENT BRANCH OFFSET-OF-THE-MASTER PATH
draw() {
    if ! said=$(info "$1" "$2"); then
        printf '%s%s:%s  does not answer\n' "$4" "$1" "$2"
        return
    fi
    name=$(field server_name)
    version=$(field redis_rs_version)
    [ -n "$version" ] || version=$(field valkey_version)
    [ -n "$version" ] || version=$(field redis_version)
    offset=$(field master_repl_offset)
    line="$1:$2  ${name:-redis} $version  $(field role)  offset $offset"
    if [ -n "$(field master_link_status)" ]; then
        line="$line  link $(field master_link_status)"
        down=$(field master_link_down_since_seconds)
        [ -z "$down" ] || line="$line for $down s"
        [ "$(field master_sync_in_progress)" != 1 ] || line="$line, in full sync"
        [ -z "$5" ] || line="$line  $(($5 - $(field slave_repl_offset))) bytes behind"
        shield=$(field master_empty_shield)
        [ -z "$shield" ] || line="$line  shielded from an empty master ($shield)"
    fi
    line="$line  syncs: $(field sync_full) full, $(field sync_partial_ok) partial, $(field sync_partial_err) refused"
    last=$(field last_sync)
    [ -z "$last" ] || line="$line  last sync: $last"
    printf '%s%s\n' "$4" "$line"
    replicas=$(printf '%s\n' "$said" | sed -n 's/^slave[0-9]*:ip=\([^,]*\),port=\([0-9]*\),.*/\1 \2/p')
    [ -n "$replicas" ] || return
    count=$(printf '%s\n' "$replicas" | wc -l)
    number=0
    printf '%s\n' "$replicas" | while read -r next_host next_port; do
        number=$((number + 1))
        case "$6 " in
            *" $next_host:$next_port "*) printf '%s└─ %s:%s again\n' "$3" "$next_host" "$next_port"; continue ;;
        esac
        if [ "$number" -lt "$count" ]; then
            (draw "$next_host" "$next_port" "$3│  " "$3├─ " "$offset" "$6 $next_host:$next_port")
        else
            (draw "$next_host" "$next_port" "$3   " "$3└─ " "$offset" "$6 $next_host:$next_port")
        fi
    done
}

while :; do
    set -- $(root_of "$host" "$port")
    picture=$(draw "$1" "$2" "" "" "" " $1:$2")
    [ -z "$watch" ] || printf '\033[H\033[2J'
    printf '%s\n' "$picture"
    [ -n "$watch" ] || break
    sleep "$watch"
done
