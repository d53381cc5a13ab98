#!/bin/sh
# Sees to it that the client libraries of tests/clients are there, at the versions that are pinned there: those of Python
# and of Node, each in a directory of its own under target/clients, and nothing outside. What is there already stays.
# Beside each lies a copy of the file that pinned it, written last: the tests look at it before they run.
set -u
cd "$(dirname "$0")/.." || exit 1
target=${CARGO_TARGET_DIR:-target}/clients
pinned=tests/clients

install_python() {
    rm -rf "$target/python"
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-compile --target "$target/python" \
        --requirement "$pinned/requirements.txt" && cp "$pinned/requirements.txt" "$target/python/"
}

# Queues of jobs need an older library of Python than the one that is tested by itself.
install_jobs() {
    rm -rf "$target/jobs"
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-compile --target "$target/jobs" \
        --requirement "$pinned/jobs-requirements.txt" && cp "$pinned/jobs-requirements.txt" "$target/jobs/"
}

# In a directory of its own, where npm finds the list of what to install, and no list of where others got it.
install_node() {
    rm -rf "$target/node" "$target/node.new" && mkdir -p "$target/node.new" &&
        cp "$pinned/package.json" "$target/node.new/" &&
        npm install --prefix "$target/node.new" --silent --no-package-lock --no-audit --no-fund --ignore-scripts &&
        mv "$target/node.new" "$target/node"
}

for language in python node jobs; do
    case $language in
    python) file=requirements.txt ;;
    node) file=package.json ;;
    jobs) file=jobs-requirements.txt ;;
    esac
    cmp -s "$pinned/$file" "$target/$language/$file" && continue
    echo "Installing for the tests: the client libraries of $pinned/$file"
    mkdir -p "$target" && "install_$language" && continue
    # Once more, for a network that had a bad moment.
    sleep 2 && "install_$language" || {
        echo "Could not install the client libraries of $pinned/$file." >&2
        exit 1
    }
done
