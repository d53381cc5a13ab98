#!/usr/bin/env python3
"""CPU time per operation of ./redis-rs beside Debian's redis-server, in the same run.

Starts both servers on free ports with the same directives, drives each in turn with redis-benchmark (round after
round, so that the machine's mood hits both alike), and reads what each server process has used from
/proc/PID/schedstat (nanoseconds on a processor, user and system). Prints a table of medians and ratios, and JSON with
--json. A ratio below 1 means that ours needs less.

    tools/bench/cpu_per_op.py [--server ./redis-rs] [--tests ping,set,get,incr,mset] [--pipelines 1,16] [--rounds 5]
"""

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

# redis-benchmark's tests, and how many operations a second of them is about (to size the runs alike).
TESTS = ["ping", "set", "get", "incr", "mset"]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def command(port, *words):
    """One command over a connection of its own; the first line of the reply."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as s:
        s.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w.encode()) for w in words))
        return s.makefile("rb").readline().strip()


class Server:
    def __init__(self, name, binary):
        self.name, self.port = name, free_port()
        self.dir = tempfile.mkdtemp(prefix="bench-")
        log = open(os.path.join(self.dir, "log"), "wb")
        args = [binary, "--port", str(self.port), "--save", "", "--dir", self.dir, "--bind", "127.0.0.1"]
        if hasattr(os, "sched_setaffinity") and os.cpu_count() > 1:
            args = ["taskset", "-c", "0", *args] if shutil.which("taskset") else args
        self.process = subprocess.Popen(args, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.time() + 20
        while True:
            try:
                if command(self.port, "PING") == b"+PONG":
                    break
            except OSError:
                pass
            if time.time() > deadline or self.process.poll() is not None:
                sys.exit(f"{name} did not start: {open(log.name).read()[-500:]}")
            time.sleep(0.05)

    def cpu_ns(self):
        """Time on a processor of all threads, in nanoseconds."""
        total = 0
        for task in os.listdir(f"/proc/{self.process.pid}/task"):
            with open(f"/proc/{self.process.pid}/task/{task}/schedstat") as f:
                total += int(f.read().split()[0])
        return total

    def stop(self):
        self.process.terminate()
        self.process.wait(20)
        shutil.rmtree(self.dir, ignore_errors=True)


def load(server, test, pipeline, requests, keys, clients):
    args = ["redis-benchmark", "-p", str(server.port), "-t", test, "-n", str(requests), "-P", str(pipeline),
            "-c", str(clients), "--csv"]
    if keys:
        args += ["-r", str(keys)]
    if shutil.which("taskset") and os.cpu_count() > 1:
        args = ["taskset", "-c", str(os.cpu_count() - 1), *args]
    done = subprocess.run(args, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith('"') and '"test"' not in line]
    if done.returncode != 0 or not lines or "rror" in done.stdout + done.stderr:
        sys.exit(f"redis-benchmark failed on {server.name}: {done.stdout[-300:]} {done.stderr[-300:]}")
    return [(line.split(",")[0].strip('"'), float(line.split(",")[1].strip('"'))) for line in lines]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--server", default="./redis-rs")
    parser.add_argument("--real", default="redis-server")
    parser.add_argument("--tests", default=",".join(TESTS))
    parser.add_argument("--pipelines", default="1,16")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=200_000, help="at pipeline 1; five times as many beyond")
    parser.add_argument("--keys", type=int, default=100_000, help="size of the random key space; 0 for one key")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--json", default="")
    args = parser.parse_args()
    version = subprocess.run([args.real, "--version"], capture_output=True, text=True).stdout.strip()
    print(f"real: {version}")
    servers = [Server("ours", os.path.abspath(args.server)), Server("real", args.real)]
    rows = []
    try:
        for pipeline in map(int, args.pipelines.split(",")):
            for test in args.tests.split(","):
                requests = args.requests * (1 if pipeline == 1 else 5)
                cost, rate = {"ours": [], "real": []}, {"ours": [], "real": []}
                for _ in range(args.rounds):
                    for server in servers:
                        before = server.cpu_ns()
                        names = load(server, test, pipeline, requests, args.keys, args.clients)
                        # `ping` runs two tests, inline and multibulk: both count.
                        cost[server.name].append((server.cpu_ns() - before) / (requests * len(names)))
                        rate[server.name].append(names[0][1])
                ratios = sorted(o / r for o, r in zip(cost["ours"], cost["real"]))
                row = {
                    "test": test, "pipeline": pipeline, "ours_ns": statistics.median(cost["ours"]),
                    "real_ns": statistics.median(cost["real"]), "cpu_ratio": statistics.median(ratios),
                    "cpu_ratio_min": ratios[0], "cpu_ratio_max": ratios[-1],
                    "throughput_ratio": statistics.median(rate["ours"]) / statistics.median(rate["real"]),
                }
                rows.append(row)
                print(f"{test:6} -P {pipeline:<4} CPU per op: ours {row['ours_ns']:7.0f} ns  real {row['real_ns']:7.0f} ns"
                      f"  ratio {row['cpu_ratio']:.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f})"
                      f"  throughput {row['throughput_ratio']:.2f}x", flush=True)
    finally:
        for server in servers:
            server.stop()
    for pipeline in sorted({row["pipeline"] for row in rows}):
        mean = statistics.geometric_mean(row["cpu_ratio"] for row in rows if row["pipeline"] == pipeline)
        print(f"geometric mean of CPU ratios, -P {pipeline}: {mean:.2f}")
    if args.json:
        with open(args.json, "w") as f:
            json.dump({"real": version, "rows": rows}, f, indent=1)


if __name__ == "__main__":
    main()
