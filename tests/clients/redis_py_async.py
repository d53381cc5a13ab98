"""redis-py under asyncio: the flows that its users rely on, with tasks where the other program has threads."""

import asyncio
import hashlib
import time

import redis.asyncio as redis
from flow import ask, chosen, port
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff


def connect(**options):
    options.setdefault("port", port())
    return redis.Redis(socket_timeout=30, **options)


async def eventually(condition, what):
    deadline = time.monotonic() + 20
    while not await condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        await asyncio.sleep(0.005)


async def raises(kind, text, awaitable):
    try:
        value = await awaitable
    except Exception as error:
        assert type(error) is kind, f"{type(error)} {error}, expected {kind}"
        assert str(error).startswith(text), f"{error!r} does not begin with {text!r}"
    else:
        raise AssertionError(f"{value!r} instead of {kind} {text}")


async def next_message(subscriber):
    """The next message that is not the answer to a subscription."""
    while True:
        message = await subscriber.get_message(timeout=20)
        assert message is not None, "no message came"
        if not message["type"].endswith("subscribe"):
            return message


async def says_hello_in_both_protocols():
    for protocol in 2, 3:
        client = connect(protocol=protocol, client_name=f"flow-{protocol}", db=3)
        assert await client.ping()
        mine = await client.client_info()
        assert (mine["name"], mine["resp"], mine["db"]) == (f"flow-{protocol}", str(protocol), 3), mine
        assert (await client.info("server"))["redis_version"].startswith("7.2.")
        await client.aclose()


async def needs_the_password():
    secret = int(ask("server", "requirepass", "sesame"))
    for protocol in 2, 3:
        none = connect(port=secret, protocol=protocol)
        wanted = "HELLO must be called" if protocol == 3 else "Authentication required"
        await raises(redis.AuthenticationError, wanted, none.get("key"))
        wrong = connect(port=secret, password="wrong", protocol=protocol)
        await raises(redis.AuthenticationError, "invalid username-password pair", wrong.get("key"))
        for options in {"password": "sesame"}, {"username": "default", "password": "sesame"}:
            client = connect(port=secret, protocol=protocol, **options)
            assert await client.set("key", protocol) and await client.get("key") == str(protocol).encode()


async def pipelines_keep_their_order():
    client = connect()
    async with client.pipeline(transaction=False) as pipe:
        for number in range(10_000):
            pipe.set(f"key:{number}", number).get(f"key:{number}")
        replies = await pipe.execute()
    assert replies == [reply for number in range(10_000) for reply in (True, str(number).encode())]
    # A hundred tasks, each with pipelines of its own.

    async def fill(task):
        for turn in range(10):
            pipe = client.pipeline(transaction=turn % 2 == 0)
            for number in range(20):
                pipe.rpush(f"list:{task}", turn * 20 + number)
            assert await pipe.execute() == list(range(turn * 20 + 1, turn * 20 + 21))

    await asyncio.gather(*[fill(task) for task in range(100)])
    for task in range(100):
        assert await client.lrange(f"list:{task}", 0, -1) == [str(number).encode() for number in range(200)]


async def watched_increments_add_up():
    conflicts = []
    client = connect()

    async def increment():
        for _ in range(10):
            async with client.pipeline() as pipe:
                while True:
                    try:
                        await pipe.watch("counter")
                        value = int(await pipe.get("counter") or 0)
                        pipe.multi()
                        pipe.set("counter", value + 1).rpush("log", value)
                        await pipe.execute()
                        break
                    except redis.WatchError:
                        conflicts.append(value)

    await asyncio.gather(*[increment() for _ in range(20)])
    assert await client.get("counter") == b"200"
    assert await client.lrange("log", 0, -1) == [str(value).encode() for value in range(200)]
    assert conflicts, "nobody was disturbed: this showed nothing"


async def messages_reach_channels_and_patterns():
    for protocol in 2, 3:
        client = connect(protocol=protocol, decode_responses=True)
        async with client.pubsub() as subscriber:
            await subscriber.subscribe("news.art", "sport")
            await subscriber.psubscribe("news.*", "h?llo")
            for count in range(1, 5):
                assert (await subscriber.get_message(timeout=20))["data"] == count
            assert await client.publish("news.art", "a") == 2
            assert await client.publish("hello", "x") == 1
            got = [await next_message(subscriber) for _ in range(3)]
            assert [(m["type"], m["pattern"], m["channel"], m["data"]) for m in got] == [
                ("message", None, "news.art", "a"),
                ("pmessage", "news.*", "news.art", "a"),
                ("pmessage", "h?llo", "hello", "x"),
            ], got
            publishers = [client.publish("sport", number) for number in range(500)]
            assert await asyncio.gather(*publishers) == [1] * 500
            assert sorted([int((await next_message(subscriber))["data"]) for _ in range(500)]) == list(range(500))
            await subscriber.unsubscribe()
            await subscriber.punsubscribe()

            async def silent():
                return await client.publish("sport", "x") + await client.pubsub_numpat() == 0

            await eventually(silent, "all is unsubscribed")


async def sharded_messages_arrive():
    for protocol in 2, 3:
        client = connect(protocol=protocol, decode_responses=True)
        async with client.pubsub() as subscriber:
            await subscriber.execute_command("SSUBSCRIBE", "orders")
            first = await subscriber.connection.read_response(push_request=protocol == 3)
            assert first == ["ssubscribe", "orders", 1], first
            assert await client.execute_command("SPUBLISH", "orders", "1") == 1
            assert await client.publish("orders", "not sharded") == 0
            message = await subscriber.connection.read_response(push_request=protocol == 3)
            assert message == ["smessage", "orders", "1"], message
            assert await client.execute_command("PUBSUB SHARDNUMSUB", "orders") == [("orders", 1)]


async def a_hundred_consumers_share_a_queue():
    consumers, rounds, rush = 100, 10, 3000
    client = connect()
    got = [[] for _ in range(consumers)]

    async def consume(number):
        mine = connect(single_connection_client=True)
        while True:
            _, item = await mine.blpop(["urgent", "queue"], timeout=30)
            if item == b"end":
                return await mine.aclose()
            got[number].append(int(item))

    async def all_wait():
        return (await client.info("clients"))["blocked_clients"] == consumers

    tasks = [asyncio.create_task(consume(number)) for number in range(consumers)]
    # As many items as there are waiting consumers: each gets exactly one, a round after the other.
    for turn in range(rounds):
        await eventually(all_wait, "all wait")
        pipe = client.pipeline(transaction=False)
        for number in range(consumers):
            pipe.rpush("queue" if number % 2 else "urgent", turn * consumers + number)
        await pipe.execute()
    await eventually(all_wait, "all wait again")
    assert [len(items) for items in got] == [rounds] * consumers, [len(items) for items in got]
    # And in a rush nothing is lost or given twice.
    await client.rpush("queue", *range(consumers * rounds, consumers * rounds + rush), *["end"] * consumers)
    await asyncio.gather(*tasks)
    assert sorted(sum(got, [])) == list(range(consumers * rounds + rush))
    assert await client.exists("queue", "urgent") == 0
    # A task that is cancelled takes nothing with it.
    waiter = asyncio.create_task(connect().blpop("queue", timeout=30))

    async def one_waits():
        return (await client.info("clients"))["blocked_clients"] == 1

    async def nobody_waits():
        return (await client.info("clients"))["blocked_clients"] == 0

    await eventually(one_waits, "one waits")
    waiter.cancel()
    await eventually(nobody_waits, "the cancelled one is gone")
    await client.rpush("queue", "item")
    assert await client.lpop("queue") == b"item"


async def cached_reads_are_invalidated():
    # As clients of the older protocol do: the notices go to a subscriber's connection.
    client, writer = connect(single_connection_client=True), connect()
    await writer.mset({"one": 1, "two": 2, "user:1": 3})
    subscriber = writer.pubsub()
    await subscriber.subscribe("__redis__:invalidate")
    await subscriber.get_message(timeout=20)
    listed = await writer.client_list(_type="pubsub")
    assert await client.execute_command("CLIENT TRACKING", "ON", "REDIRECT", listed[0]["id"]) == b"OK"
    assert await client.client_getredir() == int(listed[0]["id"])
    assert await client.get("one") == b"1"
    await writer.set("two", 3)
    await writer.set("one", 2)
    assert (await next_message(subscriber))["data"] == [b"one"]
    # Broadcasts tell of a prefix whether anybody read it or not.
    assert await client.execute_command("CLIENT TRACKING", "OFF") == b"OK"
    words = ["ON", "REDIRECT", listed[0]["id"], "BCAST", "PREFIX", "user:", "NOLOOP"]
    assert await client.execute_command("CLIENT TRACKING", *words) == b"OK"
    await writer.set("one", 4)
    await client.set("user:2", "my own")
    await writer.set("user:1", 4)
    assert (await next_message(subscriber))["data"] == [b"user:1"]
    await writer.flushall()
    assert (await next_message(subscriber))["data"] is None


async def iterators_return_every_element():
    client = connect(decode_responses=True)
    wanted = {f"lasting:{number}" for number in range(2000)}
    await client.mset(dict.fromkeys(wanted, "x"))
    await client.hset("lasting-hash", mapping=dict.fromkeys(wanted, "x"))
    await client.sadd("lasting-set", *wanted)
    await client.zadd("lasting-zset", dict.fromkeys(wanted, 1.5))
    done = False

    async def disturb():
        step = 0
        while not done:
            names = [f"passing:{step % 7}:{number}" for number in range(500)]
            await client.mset(dict.fromkeys(names, "x"))
            await client.sadd("lasting-set", *names)
            await client.delete(*names)
            await client.srem("lasting-set", *names)
            step += 1

    disturber = asyncio.create_task(disturb())
    assert wanted <= {key async for key in client.scan_iter(count=50)}
    assert wanted == {key async for key in client.scan_iter(match="lasting:*", count=200)}
    assert {key async for key in client.scan_iter(_type="set", count=200)} == {"lasting-set"}
    assert wanted == {field async for field, _ in client.hscan_iter("lasting-hash", count=50)}
    assert wanted <= {member async for member in client.sscan_iter("lasting-set", count=50)}
    assert wanted == {member async for member, _ in client.zscan_iter("lasting-zset", count=50)}
    done = True
    await disturber


async def stream_groups_deliver_every_entry_once():
    client = connect(decode_responses=True)
    await client.xgroup_create("jobs", "workers", id="$", mkstream=True)
    got = []

    async def work(number):
        mine = connect(decode_responses=True, single_connection_client=True)
        while True:
            reply = await mine.xreadgroup("workers", f"worker-{number}", {"jobs": ">"}, count=3, block=20_000)
            entries = reply[0][1]
            await mine.xack("jobs", "workers", *[entry for entry, _ in entries])
            if entries[-1][1] == {"end": "1"}:
                got.extend(entries[:-1])
                return await mine.aclose()
            got.extend(entries)

    async def all_wait():
        return (await client.info("clients"))["blocked_clients"] == 10

    workers = [asyncio.create_task(work(number)) for number in range(10)]
    await eventually(all_wait, "all wait")
    ids = [await client.xadd("jobs", {"number": number}) for number in range(500)]
    for count in range(1, 11):
        await client.xadd("jobs", {"end": 1})

        async def one_fewer():
            return sum(worker.done() for worker in workers) == count

        await eventually(one_fewer, "a worker ends")
    await asyncio.gather(*workers)
    assert sorted(entry for entry, _ in got) == sorted(ids) and len(set(ids)) == 500
    assert (await client.xpending("jobs", "workers"))["pending"] == 0
    group = (await client.xinfo_groups("jobs"))[0]
    assert group["entries-read"] == 510 and group["lag"] == 0, group


async def comes_back_after_a_restart():
    client = connect(retry=Retry(ConstantBackoff(0.05), 100))
    subscriber = client.pubsub()
    await subscriber.subscribe("news")
    await client.set("kept", "value")
    await client.save()
    consumer = asyncio.create_task(client.blpop("queue", timeout=30))

    async def it_waits():
        return (await client.info("clients"))["blocked_clients"] == 1

    await eventually(it_waits, "the consumer waits")
    await asyncio.to_thread(ask, "restart")
    assert await client.get("kept") == b"value"
    # The consumer asks again by itself.
    await eventually(it_waits, "the consumer waits again")
    await client.rpush("queue", "item")
    assert await consumer == (b"queue", b"item")

    async def subscribed():
        await subscriber.get_message(timeout=0.01)
        return await client.pubsub_numsub("news") == [(b"news", 1)]

    await eventually(subscribed, "the subscription is made again")
    assert await client.publish("news", "x") == 1
    assert (await next_message(subscriber))["data"] == b"x"


async def big_values_stay_whole():
    client = connect()
    value = hashlib.sha512(b"seed").digest() * 300_000 + b"tail"
    assert await client.set("big", value) and await client.get("big") == value
    # Several at once, so that long replies and long requests cross.
    await asyncio.gather(*[client.set(f"big:{number}", value[number : 3_000_000 + number]) for number in range(8)])
    got = await asyncio.gather(*[client.get(f"big:{number}") for number in range(8)])
    assert got == [value[number : 3_000_000 + number] for number in range(8)]
    assert await client.mget("big:0", "big", "big:7") == [got[0], value, got[7]]


async def any_byte_is_data():
    client = connect(protocol=3)
    every = bytes(range(256))
    for data in every, b"", b"\r\n", b"_\r\n", b">2\r\n+x\r\n", b"\x00" * 100, "größe €".encode():
        assert await client.set(data, data) and await client.get(data) == data
        assert await client.hset(b"hash" + data, data, data)
        assert await client.hgetall(b"hash" + data) == {data: data}
        assert await client.sadd(b"set" + data, data) and await client.smembers(b"set" + data) == {data}
        assert await client.echo(data) == data
    assert await client.restore("copy", 0, await client.dump(every)) and await client.get("copy") == every


async def errors_have_their_kinds():
    client = connect()
    await client.set("text", "x")
    await raises(redis.ResponseError, "WRONGTYPE Operation against a key", client.lpush("text", "y"))
    await raises(redis.ResponseError, "value is not an integer or out of range", client.incr("text"))
    await raises(redis.ResponseError, "unknown command 'NOSUCH'", client.execute_command("NOSUCH"))
    pipe = client.pipeline()
    pipe.set("a", 1).lpush("text", "x").set("b", 2)
    replies = await pipe.execute(raise_on_error=False)
    assert replies[0] is True and type(replies[1]) is redis.ResponseError and replies[2] is True, replies
    replica = connect(port=int(ask("replica")))
    await raises(redis.ReadOnlyError, "You can't write against a read only replica.", replica.set("x", "y"))
    await raises(redis.ReadOnlyError, "Command # 1", replica.pipeline().set("x", "y").execute())


async def replicas_answer_reads():
    replica = connect(port=int(ask("replica")), decode_responses=True)
    client = connect(decode_responses=True, single_connection_client=True)
    await client.mset({f"key:{number}": number for number in range(1000)})
    assert await client.wait(1, 20_000) == 1
    got = await asyncio.gather(*[replica.get(f"key:{number}") for number in range(1000)])
    assert got == [str(number) for number in range(1000)]
    info = await replica.info("replication")
    assert info["master_link_status"] == "up" and info["role"] == "slave"


async def replies_have_their_types():
    for protocol in 2, 3:
        client = connect(protocol=protocol, decode_responses=True)
        await client.flushall()
        await client.hset("hash", mapping={"a": "1", "b": "2"})
        assert await client.hgetall("hash") == {"a": "1", "b": "2"}
        await client.zadd("zset", {"low": 1, "high": 2.5})
        assert await client.zscore("zset", "high") == 2.5
        pairs = [tuple(pair) for pair in await client.zrange("zset", 0, -1, withscores=True)]
        assert pairs == [("low", 1.0), ("high", 2.5)], pairs
        assert await client.zincrby("zset", 0.1, "high") == 2.6
        assert await client.incrbyfloat("float", 0.1) == 0.1
        await client.sadd("set", "1", "2")
        assert await client.smembers("set") == {"1", "2"} and await client.sinter("set", "set") == {"1", "2"}
        assert (await client.config_get("maxmemory*"))["maxmemory-policy"] == "noeviction"
        assert await client.set("text", "x", ex=100, get=True) is None and await client.ttl("text") == 100
        assert await client.getex("text", persist=True) == "x" and await client.ttl("text") == -1
        assert await client.lmpop(2, "nothing", "list", direction="LEFT") is None
        assert (await client.client_list())[0]["user"] == "default"
        assert "get" in await client.command() or "GET" in await client.command()


if __name__ == "__main__":
    asyncio.run(chosen(globals())())
