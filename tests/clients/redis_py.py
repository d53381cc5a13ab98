"""redis-py, threads and blocking calls: the flows that its users rely on."""

import hashlib
import threading

import redis
from flow import ask, chosen, eventually, port, raises


def connect(**options):
    options.setdefault("port", port())
    return redis.Redis(socket_timeout=30, **options)


def in_threads(count, work):
    """Runs work(0) .. work(count - 1) beside each other; the first failure is the flow's."""
    failures = []

    def run(number):
        try:
            work(number)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
        assert not thread.is_alive(), "a thread does not end"
    if failures:
        raise failures[0]


def next_message(subscriber):
    """The next message that is not the answer to a subscription."""
    while True:
        message = subscriber.get_message(timeout=20)
        assert message is not None, "no message came"
        if not message["type"].endswith("subscribe"):
            return message


def says_hello_in_both_protocols():
    for protocol in 2, 3:
        client = connect(protocol=protocol, client_name=f"flow-{protocol}", db=3)
        assert client.ping()
        assert client.client_getname() in (f"flow-{protocol}", f"flow-{protocol}".encode())
        mine = client.client_info()
        assert mine["resp"] == str(protocol) and mine["db"] == 3, mine
        assert mine["lib-name"] == "redis-py" and mine["lib-ver"] == redis.__version__, mine
        assert client.execute_command("CLIENT LIST", "TYPE", "NORMAL")
        assert client.info("server")["redis_version"].startswith("7.2.")


def needs_the_password():
    secret = int(ask("server", "requirepass", "sesame"))
    raises(redis.AuthenticationError, "Authentication required", connect(port=secret).get, "key")
    for protocol in 2, 3:
        wrong = connect(port=secret, password="wrong", protocol=protocol)
        raises(redis.AuthenticationError, "invalid username-password pair", wrong.get, "key")
        nobody = connect(port=secret, username="nobody", password="sesame", protocol=protocol)
        raises(redis.AuthenticationError, "invalid username-password pair", nobody.get, "key")
        for options in {"password": "sesame"}, {"username": "default", "password": "sesame"}:
            assert connect(port=secret, protocol=protocol, **options).set("key", protocol)
    assert redis.from_url(f"redis://default:sesame@127.0.0.1:{secret}/0").get("key") == b"3"


def pipelines_keep_their_order():
    client = connect()
    with client.pipeline(transaction=False) as pipe:
        for number in range(10_000):
            pipe.set(f"key:{number}", number).get(f"key:{number}")
        replies = pipe.execute()
    assert replies[::2] == [True] * 10_000
    assert replies[1::2] == [str(number).encode() for number in range(10_000)]
    with client.pipeline(transaction=False) as pipe:
        pipe.set("text", "a").lpush("text", "b").append("text", "c")
        done, failed, length = pipe.execute(raise_on_error=False)
    assert done is True and length == 2
    assert type(failed) is redis.ResponseError and str(failed).startswith("WRONGTYPE "), failed


def watched_increments_add_up():
    conflicts = []

    def increment(_):
        client = connect()
        for _ in range(25):
            with client.pipeline() as pipe:
                while True:
                    try:
                        pipe.watch("counter")
                        value = int(pipe.get("counter") or 0)
                        pipe.multi()
                        pipe.set("counter", value + 1)
                        pipe.rpush("log", value)
                        pipe.execute()
                        break
                    except redis.WatchError:
                        conflicts.append(value)

    in_threads(8, increment)
    client = connect()
    assert client.get("counter") == b"200"
    assert client.lrange("log", 0, -1) == [str(value).encode() for value in range(200)]
    assert conflicts, "nobody was disturbed: this showed nothing"

    def once_more(pipe):
        value = int(pipe.get("counter"))
        pipe.multi()
        pipe.set("counter", value + 1).get("counter")

    assert client.transaction(once_more, "counter") == [True, b"201"]


def messages_reach_channels_and_patterns():
    for protocol in 2, 3:
        client = connect(protocol=protocol)
        subscriber = client.pubsub()
        subscriber.subscribe("news.art", "sport")
        subscriber.psubscribe("news.*", "news.[a-c]rt", "h?llo")
        subscriber.ping()
        kinds = [subscriber.get_message(timeout=20) for _ in range(6)]
        assert [kind["type"] for kind in kinds] == ["subscribe"] * 2 + ["psubscribe"] * 3 + ["pong"], kinds
        assert [kind["data"] for kind in kinds[:5]] == [1, 2, 3, 4, 5]
        assert client.publish("news.art", b"\x00\r\n") == 3
        assert client.publish("hello", "x") == 1
        assert client.publish("nobody", "x") == 0
        got = [next_message(subscriber) for _ in range(4)]
        assert [(m["type"], m["pattern"], m["channel"], m["data"]) for m in got] == [
            ("message", None, b"news.art", b"\x00\r\n"),
            ("pmessage", b"news.*", b"news.art", b"\x00\r\n"),
            ("pmessage", b"news.[a-c]rt", b"news.art", b"\x00\r\n"),
            ("pmessage", b"h?llo", b"hello", b"x"),
        ], got
        assert client.pubsub_channels("n*") == [b"news.art"]
        assert client.pubsub_numsub("sport", "nobody") == [(b"sport", 1), (b"nobody", 0)]
        assert client.pubsub_numpat() == 3
        for number in range(1000):
            client.publish("sport", number)
        assert [int(next_message(subscriber)["data"]) for _ in range(1000)] == list(range(1000))
        subscriber.unsubscribe()
        subscriber.punsubscribe()
        eventually(lambda: client.publish("sport", "x") + client.pubsub_numpat() == 0, "all is unsubscribed")
        subscriber.close()


def sharded_messages_arrive():
    for protocol in 2, 3:
        client = connect(protocol=protocol)
        subscriber = client.pubsub()
        subscriber.ssubscribe("orders", "{orders}:late")
        for count in 1, 2:
            message = subscriber.get_message(timeout=20)
            assert (message["type"], message["data"]) == ("ssubscribe", count), message
        assert client.spublish("orders", "1") == 1
        assert client.publish("orders", "not sharded") == 0
        assert client.spublish("{orders}:late", "2") == 1
        got = [next_message(subscriber) for _ in range(2)]
        assert [(m["type"], m["channel"], m["data"]) for m in got] == [
            ("smessage", b"orders", b"1"),
            ("smessage", b"{orders}:late", b"2"),
        ], got
        assert set(client.pubsub_shardchannels()) == {b"orders", b"{orders}:late"}
        assert client.pubsub_shardnumsub("orders") == [(b"orders", 1)]
        subscriber.sunsubscribe()
        eventually(lambda: client.spublish("orders", "x") == 0, "all is unsubscribed")
        subscriber.close()


def a_hundred_consumers_share_a_queue():
    consumers, rounds, rush = 100, 10, 3000
    client = connect()
    got = [[] for _ in range(consumers)]

    def consume(number):
        mine = connect()
        while True:
            _, item = mine.blpop(["urgent", "queue"], timeout=30)
            if item == b"end":
                return
            got[number].append(int(item))

    def produce():
        # As many items as there are waiting consumers: each gets exactly one, a round after the other.
        for turn in range(rounds):
            eventually(lambda: client.info("clients")["blocked_clients"] == consumers, "all wait")
            for number in range(consumers):
                client.rpush("queue" if number % 2 else "urgent", turn * consumers + number)
        eventually(lambda: client.info("clients")["blocked_clients"] == consumers, "all wait again")
        assert [len(items) for items in got] == [rounds] * consumers, [len(items) for items in got]
        # And in a rush nothing is lost or given twice.
        for begin in range(0, rush, 100):
            first = consumers * rounds + begin
            client.rpush("queue", *range(first, first + 100))
        client.rpush("queue", *["end"] * consumers)

    in_threads(consumers + 1, lambda number: produce() if number == consumers else consume(number))
    assert sorted(sum(got, [])) == list(range(consumers * rounds + rush))
    assert client.exists("queue", "urgent") == 0
    # The other ways to wait, each with nothing to come.
    assert client.blpop("queue", timeout=0.05) is None
    assert client.brpoplpush("queue", "other", timeout=1) is None
    assert client.blmove("queue", "other", 0.05) is None
    assert client.blmpop(0.05, 2, "queue", "other", direction="LEFT") is None
    assert client.bzpopmin("queue", timeout=0.05) is None


def cached_reads_are_invalidated():
    reader, writer = connect(protocol=3), connect()
    writer.mset({"one": 1, "two": 2})
    connection = reader.connection_pool.get_connection()
    invalid = []
    connection._parser.set_invalidation_push_handler(lambda push: invalid.append(push[1]))

    def call(*words):
        connection.send_command(*words)
        return connection.read_response()

    assert call("CLIENT", "TRACKING", "ON") == b"OK"
    assert call("GET", "one") == b"1"
    writer.set("two", 3)
    writer.set("one", 2)
    eventually(lambda: call("PING") == b"PONG" and invalid, "the invalidation")
    assert invalid == [[b"one"]], invalid
    # Told once; the key is of interest again when it is read again.
    writer.set("one", 3)
    assert call("GET", "one") == b"3" and call("PING") == b"PONG" and len(invalid) == 1
    writer.delete("one")
    eventually(lambda: call("PING") == b"PONG" and len(invalid) == 2, "the second invalidation")
    writer.flushall()
    eventually(lambda: call("PING") == b"PONG" and len(invalid) == 3, "the flush")
    assert invalid[2] is None
    info = call("CLIENT", "TRACKINGINFO")
    assert info[b"flags"] in ([b"on"], {b"on"}) and info[b"redirect"] == 0, info
    assert call("CLIENT", "TRACKING", "OFF") == b"OK"


def iterators_return_every_element():
    client = connect(decode_responses=True)
    wanted = {f"lasting:{number}" for number in range(3000)}
    client.mset(dict.fromkeys(wanted, "x"))
    client.hset("lasting-hash", mapping=dict.fromkeys(wanted, "x"))
    client.sadd("lasting-set", *wanted)
    client.zadd("lasting-zset", dict.fromkeys(wanted, 1.5))

    def passing(step):
        """Others come and go while an iterator runs, so that tables grow and shrink under it."""
        names = [f"passing:{step}:{number}" for number in range(20)]
        client.mset(dict.fromkeys(names, "x"))
        client.hset("lasting-hash", mapping=dict.fromkeys(names, "x"))
        client.sadd("lasting-set", *names)
        client.zadd("lasting-zset", dict.fromkeys(names, 1))
        if step % 10 == 9:
            for old in range(step - 9, step):
                names = [f"passing:{old}:{number}" for number in range(20)]
                client.delete(*names)
                client.hdel("lasting-hash", *names)
                client.srem("lasting-set", *names)
                client.zrem("lasting-zset", *names)

    def collect(iterator):
        found = set()
        for step, element in enumerate(iterator):
            if step % 100 == 0:
                passing(step // 100)
            found.add(element[0] if isinstance(element, tuple) else element)
        return found

    assert wanted <= collect(client.scan_iter(count=50))
    assert wanted == collect(client.scan_iter(match="lasting:*", count=200))
    assert collect(client.scan_iter(_type="zset", count=200)) == {"lasting-zset"}
    assert wanted <= collect(client.hscan_iter("lasting-hash", count=50))
    assert wanted <= collect(client.sscan_iter("lasting-set", count=50))
    assert wanted <= collect(client.zscan_iter("lasting-zset", count=50))


def stream_groups_deliver_every_entry_once():
    client = connect(decode_responses=True)
    client.xgroup_create("jobs", "workers", id="0", mkstream=True)
    raises(redis.ResponseError, "BUSYGROUP ", client.xgroup_create, "jobs", "workers")
    ids = [client.xadd("jobs", {"number": number}) for number in range(200)]
    got = [[] for _ in range(5)]

    def work(number):
        mine = connect(decode_responses=True)
        while reply := mine.xreadgroup("workers", f"worker-{number}", {"jobs": ">"}, count=7):
            for entry, fields in reply[0][1]:
                got[number].append((entry, int(fields["number"])))
                # The last worker takes its jobs and never says that they are done.
                if number != 4:
                    assert mine.xack("jobs", "workers", entry) == 1

    # It takes its share before the others come.
    stuck = client.xreadgroup("workers", "worker-4", {"jobs": ">"}, count=10)[0][1]
    got[4] += [(entry, int(fields["number"])) for entry, fields in stuck]
    in_threads(4, work)
    assert sorted(sum(got, []), key=lambda pair: pair[1]) == list(zip(ids, range(200)))
    summary = client.xpending("jobs", "workers")
    assert summary["pending"] == 10 and summary["consumers"] == [{"name": "worker-4", "pending": 10}], summary
    _, claimed, _ = client.xautoclaim("jobs", "workers", "worker-0", 0, start_id="0")
    assert claimed == stuck
    assert client.xack("jobs", "workers", *[entry for entry, _ in claimed]) == 10
    assert client.xinfo_groups("jobs")[0]["lag"] == 0
    # A reader that waits is woken by the next entry.
    woken = []

    def wait(_):
        woken.extend(connect(decode_responses=True).xread({"jobs": "$"}, block=20_000))

    waiter = threading.Thread(target=in_threads, args=(1, wait))
    waiter.start()
    eventually(lambda: client.info("clients")["blocked_clients"] == 1, "the reader waits")
    last = client.xadd("jobs", {"a": "b"}, maxlen=100, approximate=False)
    waiter.join()
    assert woken == [["jobs", [(last, {"a": "b"})]]], woken
    assert client.xlen("jobs") == 100 and client.xtrim("jobs", maxlen=10) >= 0


def comes_back_after_a_restart():
    client = connect(health_check_interval=1)
    subscriber = client.pubsub()
    subscriber.subscribe("news")
    subscriber.psubscribe("o*")
    assert [subscriber.get_message(timeout=20)["type"] for _ in range(2)] == ["subscribe", "psubscribe"]
    client.set("kept", "value")
    client.save()
    popped = []

    def wait(_):
        waiter = connect()
        while not popped:
            try:
                popped.append(waiter.blpop("queue", timeout=30))
            except redis.ConnectionError:
                pass

    waiter = threading.Thread(target=in_threads, args=(1, wait))
    waiter.start()
    eventually(lambda: client.info("clients")["blocked_clients"] == 1, "the consumer waits")
    ask("restart")
    assert client.get("kept") == b"value"
    with client.pipeline() as pipe:
        assert pipe.incr("number").incr("number").execute() == [1, 2]
    eventually(lambda: client.info("clients")["blocked_clients"] == 1, "the consumer waits again")
    client.rpush("queue", "item")
    waiter.join()
    assert popped == [(b"queue", b"item")], popped

    def subscribed():
        try:
            subscriber.get_message(timeout=0.01)
        except redis.ConnectionError:
            pass
        return client.pubsub_numsub("news") == [(b"news", 1)] and client.pubsub_numpat() == 1

    eventually(subscribed, "the subscriptions are made again")
    assert client.publish("news", "x") == 1
    assert next_message(subscriber)["data"] == b"x"


def big_values_stay_whole():
    client = connect()
    pattern = hashlib.sha512(b"seed").digest()
    value = pattern * (24 * 1024 * 1024 // len(pattern)) + b"tail"
    assert client.set("big", value)
    assert client.strlen("big") == len(value)
    assert client.get("big") == value
    assert client.getrange("big", len(value) - 4, -1) == b"tail"
    assert client.append("big", "x") == len(value) + 1
    client.hset("hash", "field", value)
    assert client.hget("hash", "field") == value
    client.rpush("list", value, "small")
    assert client.lrange("list", 0, -1) == [value, b"small"]
    # Many that are each larger than a read: their borders fall anywhere.
    with client.pipeline(transaction=False) as pipe:
        for size in range(30_000, 40_000, 97):
            pipe.set(f"size:{size}", value[:size])
            pipe.get(f"size:{size}")
        replies = pipe.execute()
    assert replies[1::2] == [value[:size] for size in range(30_000, 40_000, 97)]
    raises(redis.ResponseError, "string exceeds maximum allowed size", client.setrange, "big", 2**29, "x")


def any_byte_is_data():
    client = connect()
    every = bytes(range(256))
    tricky = [every, b"", b"\r\n", b"$-1\r\n", b"*1\r\n$4\r\nPING\r\n", b"\x00" * 100, "größe €".encode()]
    for data in tricky:
        assert client.set(data, data) and client.get(data) == data
        assert client.hset(b"hash" + data, data, data) and client.hgetall(b"hash" + data) == {data: data}
        assert client.rpush(b"list" + data, data) and client.lpop(b"list" + data) == data
        assert client.sadd(b"set" + data, data) and client.smembers(b"set" + data) == {data}
        assert client.zadd(b"zset" + data, {data: 1}) and client.zrange(b"zset" + data, 0, -1) == [data]
        assert client.echo(data) == data
    copy = client.dump(every)
    assert client.restore("copy", 0, copy) and client.get("copy") == every
    assert set(tricky) <= set(client.scan_iter())


def errors_have_their_kinds():
    client = connect()
    client.set("text", "x")
    raises(redis.ResponseError, "WRONGTYPE Operation against a key", client.lpush, "text", "y")
    raises(redis.ResponseError, "value is not an integer or out of range", client.incr, "text")
    raises(redis.ResponseError, "wrong number of arguments for 'get' command", client.execute_command, "GET")
    raises(redis.ResponseError, "unknown command 'NOSUCH'", client.execute_command, "NOSUCH", "a")
    raises(redis.ResponseError, "syntax error", client.execute_command, "SET", "a", "b", "NX", "XX")
    raises(redis.ResponseError, "no such key", client.rename, "nothing", "x")
    raises(redis.ResponseError, "DB index is out of range", client.execute_command, "SELECT", 99)
    with client.pipeline() as pipe:
        pipe.set("a", 1)
        pipe.execute_command("NOSUCH")
        raises(redis.ResponseError, "Command # 2", pipe.execute)
    assert client.get("a") is None
    with client.pipeline() as pipe:
        pipe.set("a", 1).lpush("text", "x").set("b", 2)
        raises(redis.ResponseError, "Command # 2 (LPUSH text x) of pipeline caused error: WRONGTYPE", pipe.execute)
    assert client.mget("a", "b") == [b"1", b"2"]
    client.execute_command("MULTI")
    replica = connect(port=int(ask("replica")))
    raises(redis.ReadOnlyError, "You can't write against a read only replica.", replica.set, "x", "y")
    with replica.pipeline() as pipe:
        raises(redis.ReadOnlyError, "Command # 1 (SET x y) of pipeline", pipe.set("x", "y").execute)


def replicas_answer_reads():
    replica = connect(port=int(ask("replica")), decode_responses=True)
    client = connect(decode_responses=True)
    with client.pipeline() as pipe:
        for number in range(1000):
            pipe.set(f"key:{number}", number)
        pipe.rpush("list", 1, 2, 3).hset("hash", mapping={"a": "b"}).zadd("zset", {"m": 1.5}).expire("list", 100)
        pipe.execute()
    assert client.wait(1, 20_000) == 1
    assert replica.mget([f"key:{number}" for number in range(1000)]) == [str(number) for number in range(1000)]
    assert replica.lrange("list", 0, -1) == ["1", "2", "3"] and 0 < replica.ttl("list") <= 100
    assert replica.hgetall("hash") == {"a": "b"} and replica.zscore("zset", "m") == 1.5
    assert replica.role()[0] == "slave" and client.role()[0] == "master"
    info = replica.info("replication")
    assert info["role"] == "slave" and info["master_link_status"] == "up" and info["slave_read_only"] == 1
    subscriber = replica.pubsub()
    subscriber.subscribe("news")
    assert subscriber.get_message(timeout=20)["type"] == "subscribe"
    client.publish("news", "from the master")
    assert next_message(subscriber)["data"] == "from the master"


def replies_have_their_types():
    two, three = connect(protocol=2), connect(protocol=3)
    kinds = {
        "string": (b"Hello World", b"Hello World"),
        "integer": (12345, 12345),
        "double": (b"3.141", 3.141),
        "null": (None, None),
        "array": ([0, 1, 2], [0, 1, 2]),
        "set": ([0, 1, 2], {0, 1, 2}),
        "map": ([0, 0, 1, 1, 2, 0], {0: False, 1: True, 2: False}),
        "bignum": (b"1234567999999999999999999999999999999", 1234567999999999999999999999999999999),
        "true": (1, True),
        "false": (0, False),
        "verbatim": (b"This is a verbatim\nstring", b"This is a verbatim\nstring"),
    }
    for kind, (second, third) in kinds.items():
        for client, wanted in (two, second), (three, third):
            got = client.execute_command("DEBUG", "PROTOCOL", kind)
            got = set(got) if isinstance(wanted, set) else got
            assert got == wanted and type(got) is type(wanted), f"{kind}: {got!r}, expected {wanted!r}"
    for client in two, three:
        client.flushall()
        client.hset("hash", mapping={"a": "1", "b": "2"})
        assert client.hgetall("hash") == {b"a": b"1", b"b": b"2"}
        assert client.hmget("hash", "a", "x") == [b"1", None]
        client.zadd("zset", {"low": 1, "high": 2.5, "inf": float("inf")})
        assert client.zscore("zset", "high") == 2.5 and client.zscore("zset", "inf") == float("inf")
        pairs = [tuple(pair) for pair in client.zrange("zset", 0, 1, withscores=True)]
        assert pairs == [(b"low", 1.0), (b"high", 2.5)], pairs
        assert client.zmscore("zset", ["low", "x"]) == [1.0, None]
        assert list(client.zrank("zset", "high", withscore=True)) == [1, 2.5]
        client.sadd("set", 1, 2)
        assert client.smembers("set") == {b"1", b"2"} and client.smismember("set", [1, 3]) == [1, 0]
        client.geoadd("geo", (13.361389, 38.115556, "Palermo", 15.087269, 37.502669, "Catania"))
        assert abs(client.geodist("geo", "Palermo", "Catania", "km") - 166.2742) < 0.0001
        assert client.geosearch("geo", member="Catania", radius=10, unit="km") == [b"Catania"]
        client.set("text", "ohmytext")
        client.set("other", "mynewtext")
        assert client.lcs("text", "other") == b"mytext"
        assert client.config_get("maxmemory*")["maxmemory-policy"] == "noeviction"
        assert client.object("encoding", "hash") == b"listpack"
        assert client.command_getkeys("MSET", "a", "1", "b", "2") in (["a", "b"], [b"a", b"b"])
        assert client.memory_usage("hash") > 0 and client.time()[0] > 0
        assert client.command_count() == len(client.command())


if __name__ == "__main__":
    chosen(globals())()
