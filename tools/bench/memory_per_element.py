#!/usr/bin/env python3
"""Memory per element of ./redis-rs beside Debian's redis-server: growth of the resident set after loading.

The same commands go to both; what an element costs is the growth of VmRSS divided by the number of elements, the
payload included.

    tools/bench/memory_per_element.py [--server ./redis-rs] [--count 1000000]
"""

import argparse
import os
import socket
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cpu_per_op import Server  # noqa: E402  (a neighbour, found by the line above)

FAR = str(int(time.time() * 1000) + 10**10).encode()


def words(*args):
    return b"*%d\r\n" % len(args) + b"".join(b"$%d\r\n%s\r\n" % (len(a), a) for a in args)


SHAPES = {
    "string, 16 B key, 16 B value": lambda i: words(b"SET", b"key:%012d" % i, b"value:%010d" % i),
    "the same with a TTL": lambda i: words(b"SET", b"key:%012d" % i, b"value:%010d" % i, b"PXAT", FAR),
    "integer value": lambda i: words(b"SET", b"key:%012d" % i, b"%d" % (i + 10**6)),
    "100 B value": lambda i: words(b"SET", b"key:%012d" % i, b"%0100d" % i),
    "100 B value with a TTL": lambda i: words(b"SET", b"key:%012d" % i, b"x%099d" % i, b"PXAT", FAR),
    "hash of 5 short fields": lambda i: words(
        b"HSET", b"key:%012d" % i, *[w for f in range(5) for w in (b"f%d" % f, b"val%d" % (i % 1000))]),
    "field of one big hash": lambda i: words(b"HSET", b"h", b"field:%d" % i, b"value:%d" % i),
    "member of one big sorted set": lambda i: words(b"ZADD", b"z", b"%d" % (i * 7919 % 10**6), b"member:%d" % i),
    "string of one big set": lambda i: words(b"SADD", b"s", b"member:%d" % i),
    "integer of one big set": lambda i: words(b"SADD", b"s", b"%d" % (i * 31)),
    "element of one list": lambda i: words(b"RPUSH", b"l", b"element:%d" % i),
    "entry of one stream": lambda i: words(b"XADD", b"x", b"*", b"field", b"value:%d" % i),
}


def resident(server):
    with open(f"/proc/{server.process.pid}/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmRSS"))


def load(server, shape, count):
    with socket.create_connection(("127.0.0.1", server.port)) as s:
        replies = s.makefile("rb")
        for start in range(0, count, 5000):
            batch = range(start, min(start + 5000, count))
            s.sendall(b"".join(map(shape, batch)))
            for _ in batch:
                reply = replies.readline()
                if reply.startswith(b"-"):
                    return False
                if reply.startswith(b"$"):
                    replies.readline()
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--server", default="./redis-rs")
    parser.add_argument("--real", default="redis-server")
    parser.add_argument("--count", type=int, default=1_000_000)
    args = parser.parse_args()
    for name, shape in SHAPES.items():
        cost = {}
        for label, binary in (("ours", os.path.abspath(args.server)), ("real", args.real)):
            server = Server(label, binary)
            try:
                before = resident(server)
                loaded = load(server, shape, args.count)
                cost[label] = (resident(server) - before) / args.count if loaded else float("nan")
            finally:
                server.stop()
        print(f"{name:30} ours {cost['ours']:6.1f} B  real {cost['real']:6.1f} B"
              f"  ratio {cost['ours'] / cost['real']:.2f}", flush=True)


if __name__ == "__main__":
    main()
