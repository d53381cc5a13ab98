// ioredis: the flows that its users rely on.

import assert from 'node:assert/strict';
import { ask, eventually, library, port, rejects, run, times } from './flow.mjs';

const Redis = library('ioredis');

const connect = (options = {}) => new Redis({ port, ...options });

/** Collects what a subscriber is sent. */
function collected(subscriber, ...events) {
  const got = [];
  for (const event of events) subscriber.on(event, (...words) => got.push([event, ...words]));
  return got;
}

const blocked = async (client) => Number(/^blocked_clients:(\d+)/m.exec(await client.info('clients'))[1]);

const flows = {
  async says_hello_in_both_protocols() {
    // This library speaks the older protocol only.
    const client = connect({ connectionName: 'flow', db: 3 });
    assert.equal(await client.ping(), 'PONG');
    const mine = await client.client('INFO');
    for (const field of ['name=flow', 'db=3', 'resp=2', 'lib-name=ioredis']) assert.ok(mine.includes(field), mine);
    const hello = await client.call('HELLO', 2);
    assert.deepEqual(hello.slice(0, 6), ['server', 'redis', 'version', hello[3], 'proto', 2]);
    await rejects(client.call('HELLO', 4), 'NOPROTO unsupported protocol version');
    assert.equal(await client.quit(), 'OK');
  },

  async needs_the_password() {
    const secret = Number(await ask('server', 'requirepass', 'sesame'));
    const none = connect({ port: secret, lazyConnect: true });
    none.on('error', () => {});
    await rejects(none.get('key'), 'NOAUTH Authentication required.');
    const wrong = connect({ port: secret, password: 'wrong', retryStrategy: null });
    wrong.on('error', () => {});
    await rejects(wrong.get('key'), 'WRONGPASS invalid username-password pair or user is disabled.');
    for (const username of [undefined, 'default']) {
      const client = connect({ port: secret, username, password: 'sesame' });
      assert.equal(await client.set('key', 'value'), 'OK');
    }
    assert.equal(await new Redis(`redis://default:sesame@127.0.0.1:${secret}/0`).get('key'), 'value');
  },

  async pipelines_keep_their_order() {
    const client = connect();
    const pipe = client.pipeline();
    for (let number = 0; number < 10_000; number++) pipe.set(`key:${number}`, number).get(`key:${number}`);
    const replies = await pipe.exec();
    assert.deepEqual(replies, times(20_000, (n) => [null, n % 2 ? String(n >> 1) : 'OK']));
    const [done, failed, length] = await client.pipeline().set('text', 'a').lpush('text', 'b').append('text', 'c').exec();
    assert.deepEqual([done, length], [[null, 'OK'], [null, 2]]);
    assert.match(failed[0].message, /^WRONGTYPE /);
    // What is called in one turn of the loop is pipelined without being asked for.
    const auto = connect({ enableAutoPipelining: true });
    assert.deepEqual(await Promise.all(times(1000, (n) => auto.get(`key:${n}`))), times(1000, String));
  },

  async watched_increments_add_up() {
    let conflicts = 0;
    const increment = async () => {
      const client = connect();
      for (let turn = 0; turn < 20; ) {
        await client.watch('counter');
        const value = Number(await client.get('counter'));
        const done = await client.multi().set('counter', value + 1).rpush('log', value).exec();
        if (done) turn++;
        else conflicts++;
      }
      client.disconnect();
    };
    await Promise.all(times(10, increment));
    const client = connect();
    assert.equal(await client.get('counter'), '200');
    assert.deepEqual(await client.lrange('log', 0, -1), times(200, String));
    assert.ok(conflicts > 0, 'nobody was disturbed: this showed nothing');
    // A transaction whose commands are sent as they are called.
    await client.multi({ pipeline: false });
    assert.equal(await client.incr('counter'), 'QUEUED');
    assert.deepEqual(await client.exec(), [[null, 201]]);
    await client.multi({ pipeline: false });
    await client.incr('counter');
    assert.equal(await client.discard(), 'OK');
    assert.equal(await client.get('counter'), '201');
  },

  async messages_reach_channels_and_patterns() {
    const [client, subscriber] = [connect(), connect()];
    const got = collected(subscriber, 'message', 'pmessage', 'pmessageBuffer');
    assert.equal(await subscriber.subscribe('news.art', 'sport'), 2);
    assert.equal(await subscriber.psubscribe('news.*', 'h?llo'), 4);
    await rejects(subscriber.get('key'), 'Connection in subscriber mode');
    assert.equal(await client.publish('news.art', 'a'), 2);
    assert.equal(await client.publish('hello', Buffer.from([0, 255])), 1);
    await eventually(() => got.length === 5, 'three messages');
    assert.deepEqual(got.filter(([event]) => event !== 'pmessageBuffer').slice(0, 2), [
      ['message', 'news.art', 'a'],
      ['pmessage', 'news.*', 'news.art', 'a'],
    ]);
    assert.deepEqual(got.at(-2)[0] === 'pmessageBuffer' ? got.at(-2)[3] : got.at(-1)[3], Buffer.from([0, 255]));
    got.length = 0;
    await Promise.all(times(1000, (n) => client.publish('sport', n)));
    await eventually(() => got.length === 1000, 'a thousand messages');
    assert.deepEqual(got, times(1000, (n) => ['message', 'sport', String(n)]));
    assert.deepEqual(await client.pubsub('NUMSUB', 'sport', 'nobody'), ['sport', 1, 'nobody', 0]);
    assert.equal(await subscriber.unsubscribe('news.art', 'sport'), 2);
    assert.equal(await subscriber.punsubscribe(), 0);
    assert.equal(await subscriber.get('nothing'), null);
    assert.equal(await client.publish('sport', 'x'), 0);
  },

  async sharded_messages_arrive() {
    const [client, subscriber] = [connect(), connect()];
    const got = collected(subscriber, 'smessage');
    assert.equal(await subscriber.ssubscribe('orders', '{orders}:late'), 2);
    assert.equal(await client.spublish('orders', '1'), 1);
    assert.equal(await client.publish('orders', 'not sharded'), 0);
    assert.equal(await client.spublish('{orders}:late', '2'), 1);
    await eventually(() => got.length === 2, 'two messages');
    assert.deepEqual(got, [['smessage', 'orders', '1'], ['smessage', '{orders}:late', '2']]);
    assert.deepEqual((await client.pubsub('SHARDCHANNELS')).sort(), ['orders', '{orders}:late']);
    assert.equal(await subscriber.sunsubscribe(), 0);
    assert.equal(await client.spublish('orders', 'x'), 0);
  },

  async a_hundred_consumers_share_a_queue() {
    const [consumers, rounds, rush] = [100, 10, 3000];
    const client = connect();
    const got = times(consumers, () => []);
    const consume = async (number) => {
      const mine = connect();
      for (;;) {
        const [, item] = await mine.blpop('urgent', 'queue', 30);
        if (item === 'end') return mine.disconnect();
        got[number].push(Number(item));
      }
    };
    const ended = Promise.all(times(consumers, consume));
    // As many items as there are waiting consumers: each gets exactly one, a round after the other.
    for (let turn = 0; turn < rounds; turn++) {
      await eventually(async () => (await blocked(client)) === consumers, 'all wait');
      await Promise.all(times(consumers, (n) => client.rpush(n % 2 ? 'queue' : 'urgent', turn * consumers + n)));
    }
    await eventually(async () => (await blocked(client)) === consumers, 'all wait again');
    assert.deepEqual(got.map((items) => items.length), times(consumers, () => rounds));
    // And in a rush nothing is lost or given twice.
    const begin = consumers * rounds;
    await Promise.all(times(rush / 100, (n) => client.rpush('queue', ...times(100, (m) => begin + n * 100 + m))));
    await client.rpush('queue', ...times(consumers, () => 'end'));
    await ended;
    assert.deepEqual(got.flat().sort((a, b) => a - b), times(begin + rush, Number));
    assert.equal(await client.exists('queue', 'urgent'), 0);
    assert.equal(await client.brpop('queue', 0.05), null);
    assert.equal(await client.blmove('queue', 'other', 'LEFT', 'RIGHT', 0.05), null);
    assert.equal(await client.bzpopmax('queue', 0.05), null);
  },

  async cached_reads_are_invalidated() {
    // As clients of the older protocol do: the notices go to a subscriber's connection.
    const [client, writer, subscriber] = [connect(), connect(), connect()];
    const got = collected(subscriber, 'message');
    const id = await subscriber.client('ID');
    await subscriber.subscribe('__redis__:invalidate');
    assert.equal(await client.call('CLIENT', 'TRACKING', 'ON', 'REDIRECT', id, 'OPTIN'), 'OK');
    assert.equal(await client.call('CLIENT', 'GETREDIR'), id);
    await writer.mset('one', 1, 'two', 2);
    assert.equal(await client.get('two'), '2');
    assert.equal(await client.call('CLIENT', 'CACHING', 'YES'), 'OK');
    assert.equal(await client.get('one'), '1');
    await writer.set('two', 3);
    await writer.set('one', 2);
    await eventually(() => got.length === 1, 'the invalidation');
    // The notice is an array of keys, which this library shows as text.
    assert.equal(String(got[0][2]), 'one');
    subscriber.disconnect();
    await eventually(async () => (await writer.client('LIST', 'TYPE', 'pubsub')) === '', 'the subscriber is gone');
    await client.call('CLIENT', 'CACHING', 'YES');
    await client.get('one');
    await writer.set('one', 3);
    const info = await client.call('CLIENT', 'TRACKINGINFO');
    assert.deepEqual(info[1], ['on', 'optin', 'broken_redirect']);
  },

  async iterators_return_every_element() {
    const client = connect();
    const wanted = times(2000, (n) => `lasting:${n}`).sort();
    await client.mset(wanted.flatMap((name) => [name, 'x']));
    await client.hset('lasting-hash', ...wanted.flatMap((name) => [name, 'x']));
    await client.sadd('lasting-set', ...wanted);
    await client.zadd('lasting-zset', ...wanted.flatMap((name) => [1.5, name]));
    const collect = async (stream, step = 1) => {
      const found = new Set();
      for await (const chunk of stream) {
        for (let at = 0; at < chunk.length; at += step) found.add(chunk[at]);
        const passing = times(300, (n) => `passing:${n}`);
        await client.pipeline().mset(passing.flatMap((name) => [name, 'x'])).sadd('lasting-set', ...passing).exec();
        await client.pipeline().del(...passing).srem('lasting-set', ...passing).exec();
      }
      return [...found].filter((name) => name.startsWith('lasting:')).sort();
    };
    assert.deepEqual(await collect(client.scanStream({ count: 50 })), wanted);
    assert.deepEqual(await collect(client.scanStream({ match: 'lasting:*', type: 'string', count: 100 })), wanted);
    assert.deepEqual(await collect(client.hscanStream('lasting-hash', { count: 50 }), 2), wanted);
    assert.deepEqual(await collect(client.sscanStream('lasting-set', { count: 50 })), wanted);
    assert.deepEqual(await collect(client.zscanStream('lasting-zset', { count: 50 }), 2), wanted);
  },

  async stream_groups_deliver_every_entry_once() {
    const client = connect();
    assert.equal(await client.xgroup('CREATE', 'jobs', 'workers', '$', 'MKSTREAM'), 'OK');
    await rejects(client.xgroup('CREATE', 'jobs', 'workers', '$'), 'BUSYGROUP Consumer Group name already exists');
    const got = [];
    const ids = [];
    const work = async (number) => {
      const mine = connect();
      while (got.length < 300) {
        const words = ['GROUP', 'workers', `worker-${number}`, 'COUNT', 4, 'BLOCK', 100, 'STREAMS', 'jobs', '>'];
        const reply = await mine.xreadgroup(...words);
        for (const [id] of reply?.[0][1] ?? []) {
          got.push(id);
          assert.equal(await mine.xack('jobs', 'workers', id), 1);
        }
      }
      mine.disconnect();
    };
    const workers = times(8, work);
    for (let number = 0; number < 300; number++) ids.push(await client.xadd('jobs', '*', 'number', number));
    await Promise.all(workers);
    assert.deepEqual(got.sort(), ids.sort());
    assert.deepEqual(await client.xpending('jobs', 'workers'), [0, null, null, null]);
    assert.equal((await client.xrange('jobs', '-', '+', 'COUNT', 10)).length, 10);
    assert.deepEqual((await client.xrevrange('jobs', '+', '-', 'COUNT', 1))[0][1], ['number', '299']);
    assert.equal(await client.xdel('jobs', ids[0]), 1);
    assert.equal(await client.xlen('jobs'), 299);
  },

  async comes_back_after_a_restart() {
    const client = connect({ retryStrategy: () => 20, maxRetriesPerRequest: null });
    const subscriber = connect({ retryStrategy: () => 20 });
    const consumer = connect({ retryStrategy: () => 20, maxRetriesPerRequest: null });
    for (const each of [client, subscriber, consumer]) each.on('error', () => {});
    const got = collected(subscriber, 'message', 'pmessage', 'smessage');
    await subscriber.subscribe('news');
    await subscriber.psubscribe('o*');
    await client.set('kept', 'value');
    await client.save();
    const popped = consumer.blpop('queue', 30);
    await eventually(async () => (await blocked(client)) === 1, 'the consumer waits');
    await ask('restart');
    assert.equal(await client.get('kept'), 'value');
    await eventually(async () => (await blocked(client)) === 1, 'the consumer asks again by itself');
    await client.rpush('queue', 'item');
    assert.deepEqual(await popped, ['queue', 'item']);
    // So does the subscriber.
    await eventually(async () => (await client.publish('news', 'x')) === 1, 'the channel is subscribed again');
    await eventually(async () => (await client.publish('other', 'y')) === 1, 'the pattern is subscribed again');
    await eventually(() => got.length === 2, 'two messages');
    assert.deepEqual(got, [['message', 'news', 'x'], ['pmessage', 'o*', 'other', 'y']]);
  },

  async big_values_stay_whole() {
    const client = connect();
    const value = Buffer.alloc(20_000_003, 'the quick brown fox\r\n');
    assert.equal(await client.set('big', value), 'OK');
    assert.ok((await client.getBuffer('big')).equals(value));
    await client.rpush('list', value, 'small', value);
    const [first, small, last] = await client.lrangeBuffer('list', 0, -1);
    assert.ok(first.equals(value) && last.equals(value) && small.toString() === 'small');
    const sizes = times(100, (n) => 30_000 + n * 97);
    const pipe = client.pipeline();
    for (const size of sizes) pipe.set(`size:${size}`, value.subarray(0, size)).getBuffer(`size:${size}`);
    const replies = await pipe.exec();
    sizes.forEach((size, n) => assert.ok(replies[2 * n + 1][1].equals(value.subarray(0, size))));
  },

  async any_byte_is_data() {
    const client = connect();
    const every = Buffer.from(times(256, Number));
    for (const data of [every, Buffer.alloc(0), Buffer.from('\r\n'), Buffer.from('$-1\r\n'), Buffer.from('größe €')]) {
      assert.equal(await client.set(data, data), 'OK');
      assert.deepEqual(await client.getBuffer(data), data);
      await client.hset('hash', data, data);
      assert.deepEqual(await client.hgetBuffer('hash', data), data);
      await client.sadd('set', data);
      assert.equal(await client.sismember('set', data), 1);
      assert.deepEqual(await client.echoBuffer(data), data);
    }
    assert.equal((await client.smembersBuffer('set')).length, 5);
    await client.restore('copy', 0, await client.dumpBuffer(every));
    assert.deepEqual(await client.getBuffer('copy'), every);
  },

  async errors_have_their_kinds() {
    const client = connect();
    await client.set('text', 'x');
    const error = await rejects(client.lpush('text', 'y'), 'WRONGTYPE Operation against a key holding the wrong kind');
    assert.equal(error.name, 'ReplyError');
    assert.deepEqual(error.command, { name: 'lpush', args: ['text', 'y'] });
    await rejects(client.incr('text'), 'ERR value is not an integer or out of range');
    await rejects(client.call('GET'), "ERR wrong number of arguments for 'get' command");
    await rejects(client.call('NOSUCH', 'a'), "ERR unknown command 'NOSUCH', with args beginning with: 'a' ");
    const refused = await rejects(client.multi().set('a', 1).call('NOSUCH').exec(), 'EXECABORT Transaction discarded');
    assert.match(refused.previousErrors[0].message, /^ERR unknown command/);
    assert.equal(await client.get('a'), null);
    const replies = await client.multi().set('a', 1).lpush('text', 'x').set('b', 2).exec();
    assert.deepEqual([replies[0], replies[2]], [[null, 'OK'], [null, 'OK']]);
    assert.match(replies[1][0].message, /^WRONGTYPE /);
    const replica = connect({ port: Number(await ask('replica')) });
    await rejects(replica.set('x', 'y'), "READONLY You can't write against a read only replica.");
    // The usual way to follow a failover: a client that meets a replica reconnects and tries again.
    let turns = 0;
    const seeking = connect({ port: replica.options.port, reconnectOnError: () => (turns++ < 1 ? 2 : false) });
    await rejects(seeking.set('x', 'y'), 'READONLY ');
    assert.equal(turns, 2);
  },

  async replicas_answer_reads() {
    const replica = connect({ port: Number(await ask('replica')), readOnly: false });
    const client = connect();
    await client.mset(times(1000, (n) => [`key:${n}`, n]).flat());
    await client.setex('brief', 100, 'x');
    assert.equal(await client.wait(1, 20_000), 1);
    assert.deepEqual(await Promise.all(times(1000, (n) => replica.get(`key:${n}`))), times(1000, String));
    assert.ok((await replica.ttl('brief')) > 90);
    assert.deepEqual((await replica.role()).slice(0, 4), ['slave', '127.0.0.1', port, 'connected']);
    const got = collected(replica, 'message');
    await replica.subscribe('news');
    await client.publish('news', 'from the master');
    await eventually(() => got.length === 1, 'the message');
  },

  async replies_have_their_types() {
    const client = connect();
    await client.hset('hash', { a: 1, b: 2 });
    assert.deepEqual(await client.hgetall('hash'), { a: '1', b: '2' });
    assert.deepEqual(await client.hmget('hash', 'a', 'x'), ['1', null]);
    await client.zadd('zset', 1, 'low', 2.5, 'high', 'inf', 'infinite');
    assert.deepEqual(await client.zrange('zset', 0, -1, 'WITHSCORES'), ['low', '1', 'high', '2.5', 'infinite', 'inf']);
    assert.equal(await client.zscore('zset', 'high'), '2.5');
    assert.equal(await client.zincrby('zset', '0.1', 'high'), '2.6');
    assert.equal(await client.incrbyfloat('float', '0.1'), '0.1');
    assert.deepEqual(await client.zmpop(1, 'zset', 'MIN'), ['zset', [['low', '1']]]);
    assert.equal(await client.zadd('zset', 'XX', 'CH', 3, 'high'), 1);
    assert.equal(await client.geoadd('geo', 13.361389, 38.115556, 'Palermo', 15.087269, 37.502669, 'Catania'), 2);
    assert.equal(await client.geodist('geo', 'Palermo', 'Catania', 'km'), '166.2742');
    assert.equal(await client.bitfield('bits', 'SET', 'u8', 0, 255, 'GET', 'u4', 0).then(String), '0,15');
    assert.equal(await client.pfadd('hll', 'a', 'b', 'c'), 1);
    assert.equal(await client.pfcount('hll'), 3);
    assert.equal(await client.object('ENCODING', 'hash'), 'listpack');
    assert.equal(await client.expire('hash', 100, 'NX'), 1);
    assert.equal((await client.config('GET', 'maxmemory-policy'))[1], 'noeviction');
    assert.deepEqual(await client.command('GETKEYS', 'MSET', 'a', 1, 'b', 2), ['a', 'b']);
    assert.equal((await client.call('COMMAND')).length, await client.command('COUNT'));
    // MONITOR has a mode of its own in this library.
    const monitor = await client.monitor();
    const seen = new Promise((resolve) => monitor.on('monitor', (time, words) => resolve(words)));
    await client.set('a', 'b');
    assert.deepEqual(await seen, ['set', 'a', 'b']);
  },
};

await run(flows);
