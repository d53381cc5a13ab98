#!/usr/bin/env python3
"""How late keys expire: the time between the end of a key and its `expired` event, with many others that end much later.

    tools/bench/expiry_lateness.py --server ./redis-rs [--real redis-server] [--keys 1000000] [--probes 1000]

Each server is loaded with --keys keys whose ends lie far ahead, then probe keys are set that end one by one, a few
milliseconds apart. Nobody touches them: what deletes them is the server's own expiry. A listener takes the time of
each event as it comes. What is printed for each server: the median, the 99th percentile and the most, in milliseconds,
and how many events never came within the time given.
"""

import argparse
import os
import select
import shutil
import socket
import subprocess
import tempfile
import time


def command(*words):
    words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A server of its own in a directory of its own, gone at the end of the block."""

    def __init__(self, program):
        self.program = program

    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="expiry-lateness")
        self.port = free_port()
        words = [self.program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", self.dir,
                 "--notify-keyspace-events", "Ex"]
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return self
            except OSError:
                time.sleep(0.02)
        raise SystemExit(f"{self.program} does not start")

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def connect(self):
        connection = socket.create_connection(("127.0.0.1", self.port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection


def read_lines(connection, count):
    """Takes so many one-line replies."""
    seen = 0
    while seen < count:
        data = connection.recv(1 << 20)
        if not data:
            raise SystemExit("the server closed the connection")
        if b"-" in (data[:1], data[data.rfind(b"\n", 0, -1) + 1:][:1]):
            raise SystemExit(f"the server refuses: {data[:100]!r}")
        seen += data.count(b"\r\n")


def load(connection, keys):
    """Keys that end between one day and a year from now."""
    batch = 2000
    for first in range(0, keys, batch):
        count = min(batch, keys - first)
        request = b"".join(
            command("SET", f"key:{n:012}", "value", "PX", 86_400_000 + n * 7919 % 31_000_000_000)
            for n in range(first, first + count))
        connection.sendall(request)
        read_lines(connection, count)


def measure(program, keys, probes, gap_ms, patience):
    with Server(program) as server:
        connection = server.connect()
        load(connection, keys)
        listener = server.connect()
        listener.sendall(command("SUBSCRIBE", "__keyevent@0__:expired"))
        listener.recv(1000)
        begin_ms = time.time_ns() // 1_000_000 + 1000
        ends = {f"probe:{n}": begin_ms + n * gap_ms for n in range(probes)}
        connection.sendall(b"".join(command("SET", key, "x", "PXAT", end) for key, end in ends.items()))
        read_lines(connection, probes)

        late, buffer = {}, b""
        deadline = (begin_ms + probes * gap_ms) / 1000 + patience
        while len(late) < probes and time.time() < deadline:
            if not select.select([listener], [], [], 0.5)[0]:
                continue
            buffer += listener.recv(1 << 16)
            now = time.time_ns() / 1_000_000
            *whole, buffer = buffer.split(b"\r\n")
            for line in whole:
                key = line.decode(errors="replace")
                if key in ends:
                    late.setdefault(key, now - ends[key])
        return sorted(late.values()), probes - len(late)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--server", default="./redis-rs")
    parser.add_argument("--real", default="redis-server", help="another server to measure, or nothing")
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--probes", type=int, default=1000)
    parser.add_argument("--gap-ms", type=int, default=5, help="between the end of a probe and that of the next")
    parser.add_argument("--patience", type=float, default=60, help="seconds to wait for the last events")
    args = parser.parse_args()
    print(f"{args.probes} probe keys among {args.keys} with a far end; lateness of their events in ms")
    for program in filter(None, [args.server, args.real]):
        late, missing = measure(os.path.expanduser(program), args.keys, args.probes, args.gap_ms, args.patience)
        if late:
            p99 = late[min(len(late) - 1, len(late) * 99 // 100)]
            print(f"{program}: median {late[len(late) // 2]:.2f}, p99 {p99:.2f}, most {late[-1]:.2f}, missing {missing}")
        else:
            print(f"{program}: no event came within {args.patience} s")


if __name__ == "__main__":
    main()
