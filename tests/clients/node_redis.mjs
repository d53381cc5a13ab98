// node-redis: the flows that its users rely on, in the protocol it is told to speak.

import assert from 'node:assert/strict';
import { ask, eventually, library, port, rejects, run, times } from './flow.mjs';

const { createClient, createClientPool, ErrorReply, RESP_TYPES, WatchError } = library('redis');

async function connect({ at = port, ...options } = {}) {
  const client = createClient({ socket: { host: '127.0.0.1', port: at, reconnectStrategy: 20 }, ...options });
  client.on('error', () => {});
  return client.connect();
}

const raw = { commandOptions: { typeMapping: { [RESP_TYPES.BLOB_STRING]: Buffer } } };
const blocked = async (client) => Number(/^blocked_clients:(\d+)/m.exec(await client.info('clients'))[1]);

const flows = {
  async says_hello_in_both_protocols() {
    for (const RESP of [2, 3]) {
      const client = await connect({ RESP, name: 'flow', database: 3 });
      assert.equal(await client.ping(), 'PONG');
      const mine = await client.clientInfo();
      assert.deepEqual([mine.name, mine.db, mine.resp, mine.libName], ['flow', 3, RESP, 'node-redis']);
      const hello = await client.hello();
      assert.deepEqual([hello.server, hello.proto, hello.role], ['redis', RESP, 'master']);
      await client.close();
    }
  },

  async needs_the_password() {
    const secret = Number(await ask('server', 'requirepass', 'sesame'));
    for (const RESP of [2, 3]) {
      const socket = { host: '127.0.0.1', port: secret, reconnectStrategy: false };
      const wrong = createClient({ socket, RESP, password: 'wrong' });
      wrong.on('error', () => {});
      await rejects(wrong.connect(), 'WRONGPASS invalid username-password pair or user is disabled.');
      for (const username of [undefined, 'default']) {
        const client = await connect({ at: secret, RESP, username, password: 'sesame' });
        assert.equal(await client.set('key', 'value'), 'OK');
      }
    }
    const none = await connect({ at: secret });
    await rejects(none.get('key'), 'NOAUTH Authentication required.');
    const client = await createClient({ url: `redis://default:sesame@127.0.0.1:${secret}/0` }).connect();
    assert.equal(await client.get('key'), 'value');
  },

  async pipelines_keep_their_order() {
    for (const RESP of [2, 3]) {
      const client = await connect({ RESP });
      // What is called in one turn of the loop is one pipeline.
      const pairs = times(10_000, (n) => [client.set(`key:${n}`, String(n)), client.get(`key:${n}`)]);
      assert.deepEqual(await Promise.all(pairs.flat()), times(20_000, (n) => (n % 2 ? String(n >> 1) : 'OK')));
      const batch = client.multi().set('text', 'a').lPush('text', 'b').append('text', 'c');
      await rejects(batch.execAsPipeline(), 'WRONGTYPE Operation against a key holding the wrong kind of value');
      assert.equal(await client.get('text'), 'ac');
    }
  },

  async watched_increments_add_up() {
    let conflicts = 0;
    const pool = createClientPool({ socket: { host: '127.0.0.1', port } }, { minimum: 1, maximum: 20 });
    await pool.connect();
    const increment = () =>
      pool.execute(async (client) => {
        for (let turn = 0; turn < 20; ) {
          await client.watch('counter');
          const value = Number(await client.get('counter'));
          try {
            await client.multi().set('counter', String(value + 1)).rPush('log', String(value)).exec();
            turn++;
          } catch (error) {
            if (!(error instanceof WatchError)) throw error;
            conflicts++;
          }
        }
      });
    await Promise.all(times(10, increment));
    assert.equal(await pool.get('counter'), '200');
    assert.deepEqual(await pool.lRange('log', 0, -1), times(200, String));
    assert.ok(conflicts > 0, 'nobody was disturbed: this showed nothing');
  },

  async messages_reach_channels_and_patterns() {
    for (const RESP of [2, 3]) {
      const [client, subscriber] = [await connect({ RESP }), await connect({ RESP })];
      const got = [];
      const listen = (message, channel) => got.push([channel, message]);
      await subscriber.subscribe(['news.art', 'sport'], listen);
      await subscriber.pSubscribe(['news.*', 'h?llo'], listen);
      assert.equal(await client.publish('news.art', 'a'), 2);
      assert.equal(await client.publish('hello', 'x'), 1);
      await eventually(() => got.length === 3, 'three messages');
      assert.deepEqual(got, [['news.art', 'a'], ['news.art', 'a'], ['hello', 'x']]);
      got.length = 0;
      await Promise.all(times(1000, (n) => client.publish('sport', String(n))));
      await eventually(() => got.length === 1000, 'a thousand messages');
      assert.deepEqual(got, times(1000, (n) => ['sport', String(n)]));
      assert.deepEqual({ ...(await client.pubSubNumSub(['sport', 'nobody'])) }, { sport: 1, nobody: 0 });
      assert.equal(await client.pubSubNumPat(), 2);
      // In the newer protocol a subscriber goes on with other commands.
      if (RESP === 3) assert.equal(await subscriber.get('nothing'), null);
      await subscriber.unsubscribe(['news.art', 'sport']);
      await subscriber.pUnsubscribe(['news.*', 'h?llo']);
      assert.equal(await client.publish('sport', 'x'), 0);
      assert.equal(await subscriber.get('nothing'), null);
      await subscriber.close();
    }
  },

  async sharded_messages_arrive() {
    for (const RESP of [2, 3]) {
      const [client, subscriber] = [await connect({ RESP }), await connect({ RESP })];
      const got = [];
      await subscriber.sSubscribe(['orders', '{orders}:late'], (message, channel) => got.push([channel, message]));
      assert.equal(await client.sPublish('orders', '1'), 1);
      assert.equal(await client.publish('orders', 'not sharded'), 0);
      assert.equal(await client.sPublish('{orders}:late', '2'), 1);
      await eventually(() => got.length === 2, 'two messages');
      assert.deepEqual(got, [['orders', '1'], ['{orders}:late', '2']]);
      assert.deepEqual((await client.pubSubShardChannels()).sort(), ['orders', '{orders}:late']);
      await subscriber.sUnsubscribe(['orders', '{orders}:late']);
      assert.equal(await client.sPublish('orders', 'x'), 0);
    }
  },

  async a_hundred_consumers_share_a_queue() {
    const [consumers, rounds, rush] = [100, 10, 3000];
    const client = await connect({ RESP: 3 });
    const got = times(consumers, () => []);
    const consume = async (number) => {
      const mine = await connect({ RESP: 2 + (number % 2) });
      for (;;) {
        const { element } = await mine.blPop(['urgent', 'queue'], 30);
        if (element === 'end') return mine.close();
        got[number].push(Number(element));
      }
    };
    const ended = Promise.all(times(consumers, consume));
    // As many items as there are waiting consumers: each gets exactly one, a round after the other.
    for (let turn = 0; turn < rounds; turn++) {
      await eventually(async () => (await blocked(client)) === consumers, 'all wait');
      await Promise.all(times(consumers, (n) => client.rPush(n % 2 ? 'queue' : 'urgent', `${turn * consumers + n}`)));
    }
    await eventually(async () => (await blocked(client)) === consumers, 'all wait again');
    assert.deepEqual(got.map((items) => items.length), times(consumers, () => rounds));
    // And in a rush nothing is lost or given twice.
    const begin = consumers * rounds;
    await Promise.all(times(rush / 100, (n) => client.rPush('queue', times(100, (m) => `${begin + n * 100 + m}`))));
    await client.rPush('queue', times(consumers, () => 'end'));
    await ended;
    assert.deepEqual(got.flat().sort((a, b) => a - b), times(begin + rush, Number));
    assert.equal(await client.exists(['queue', 'urgent']), 0);
    assert.equal(await client.blMove('queue', 'other', 'LEFT', 'RIGHT', 0.05), null);
    assert.equal(await client.bzPopMin('queue', 0.05), null);
    assert.equal(await client.blmPop(0.05, ['queue', 'other'], 'LEFT'), null);
  },

  async cached_reads_are_invalidated() {
    const clientSideCache = { ttl: 0, maxEntries: 0, evictPolicy: 'LRU' };
    const client = await connect({ RESP: 3, clientSideCache });
    const writer = await connect();
    const reads = async () => Number(/cmdstat_get:calls=(\d+)/.exec(await writer.info('commandstats'))?.[1] ?? 0);
    await writer.mSet({ one: '1', two: '2' });
    for (let turn = 0; turn < 10; turn++) assert.equal(await client.get('one'), '1');
    assert.equal(await reads(), 1);
    await writer.set('two', '3');
    await writer.set('one', '2');
    await eventually(async () => (await client.get('one')) === '2', 'the invalidation');
    assert.equal(await client.get('one'), '2');
    const before = await reads();
    assert.equal(await client.get('one'), '2');
    assert.equal(await reads(), before);
    await client.hGetAll('hash');
    await writer.hSet('hash', 'a', 'b');
    await eventually(async () => (await client.hGetAll('hash')).a === 'b', 'the invalidation of the hash');
    await writer.flushAll();
    await eventually(async () => (await client.get('one')) === null, 'the flush');
  },

  async iterators_return_every_element() {
    const client = await connect({ RESP: 3 });
    const wanted = times(2000, (n) => `lasting:${n}`).sort();
    await client.mSet(wanted.map((name) => [name, 'x']));
    await client.hSet('lasting-hash', wanted.map((name) => [name, 'x']));
    await client.sAdd('lasting-set', wanted);
    await client.zAdd('lasting-zset', wanted.map((value) => ({ value, score: 1.5 })));
    const collect = async (iterator, name = (element) => element) => {
      const found = new Set();
      for await (const chunk of iterator) {
        for (const element of chunk) found.add(name(element));
        const passing = times(300, (n) => `passing:${n}`);
        await client.multi().mSet(passing.map((each) => [each, 'x'])).sAdd('lasting-set', passing).exec();
        await client.multi().del(passing).sRem('lasting-set', passing).exec();
      }
      return [...found].filter((each) => each.startsWith('lasting:')).sort();
    };
    assert.deepEqual(await collect(client.scanIterator({ COUNT: 50 })), wanted);
    assert.deepEqual(await collect(client.scanIterator({ MATCH: 'lasting:*', TYPE: 'string', COUNT: 100 })), wanted);
    assert.deepEqual(await collect(client.hScanIterator('lasting-hash', { COUNT: 50 }), (each) => each.field), wanted);
    assert.deepEqual(await collect(client.sScanIterator('lasting-set', { COUNT: 50 })), wanted);
    assert.deepEqual(await collect(client.zScanIterator('lasting-zset', { COUNT: 50 }), (each) => each.value), wanted);
  },

  async stream_groups_deliver_every_entry_once() {
    for (const RESP of [2, 3]) {
      const client = await connect({ RESP });
      await client.flushAll();
      assert.equal(await client.xGroupCreate('jobs', 'workers', '$', { MKSTREAM: true }), 'OK');
      await rejects(client.xGroupCreate('jobs', 'workers', '$'), 'BUSYGROUP Consumer Group name already exists');
      const [got, ids] = [[], []];
      const work = async (number) => {
        const mine = await connect({ RESP: 2 });
        while (got.length < 300) {
          const from = { key: 'jobs', id: '>' };
          const reply = await mine.xReadGroup('workers', `worker-${number}`, from, { COUNT: 4, BLOCK: 100 });
          for (const { id } of reply?.[0].messages ?? []) {
            got.push(id);
            assert.equal(await mine.xAck('jobs', 'workers', id), 1);
          }
        }
        await mine.close();
      };
      const workers = times(8, work);
      for (let number = 0; number < 300; number++) ids.push(await client.xAdd('jobs', '*', { number: `${number}` }));
      await Promise.all(workers);
      assert.deepEqual(got.sort(), ids.sort());
      assert.equal((await client.xPending('jobs', 'workers')).pending, 0);
      const [group] = await client.xInfoGroups('jobs');
      assert.deepEqual([group.consumers, group['entries-read'], group.lag], [8, 300, 0]);
      const [last] = await client.xRevRange('jobs', '+', '-', { COUNT: 1 });
      assert.equal(last.message.number, '299');
      assert.equal(await client.xLen('jobs'), 300);
    }
  },

  async comes_back_after_a_restart() {
    for (const RESP of [2, 3]) {
      const [client, consumer, subscriber] = [await connect({ RESP }), await connect({ RESP }), await connect({ RESP })];
      const got = [];
      await subscriber.subscribe('news', (message) => got.push(message));
      await subscriber.pSubscribe('o*', (message) => got.push(message));
      await client.set('kept', 'value');
      await client.sendCommand(['SAVE']);
      const popped = consumer.blPop('queue', 30).catch((error) => error);
      await eventually(async () => (await blocked(client)) === 1, 'the consumer waits');
      await ask('restart');
      // A command that was under way is failed, not sent twice; later ones wait for the new connection.
      const outcome = await popped;
      assert.ok(outcome instanceof Error, outcome);
      const again = consumer.blPop('queue', 30);
      assert.equal(await client.get('kept').catch(() => client.get('kept')), 'value');
      await eventually(async () => (await blocked(client)) === 1, 'the consumer waits again');
      await client.rPush('queue', 'item');
      assert.equal((await again).element, 'item');
      await eventually(async () => (await client.publish('news', 'x')) === 1, 'the channel is subscribed again');
      await eventually(async () => (await client.publish('other', 'y')) === 1, 'the pattern is subscribed again');
      await eventually(() => got.length === 2, 'two messages');
      for (const each of [client, consumer, subscriber]) each.destroy();
    }
  },

  async big_values_stay_whole() {
    const client = await connect({ RESP: 3, ...raw });
    const value = Buffer.alloc(20_000_003, 'the quick brown fox\r\n');
    assert.equal(String(await client.set('big', value)), 'OK');
    assert.ok((await client.get('big')).equals(value));
    await client.rPush('list', [value, 'small', value]);
    const [first, small, last] = await client.lRange('list', 0, -1);
    assert.ok(first.equals(value) && last.equals(value) && String(small) === 'small');
    const sizes = times(100, (n) => 30_000 + n * 97);
    await Promise.all(
      sizes.map(async (size) => {
        await client.set(`size:${size}`, value.subarray(0, size));
        assert.ok((await client.get(`size:${size}`)).equals(value.subarray(0, size)));
      }),
    );
  },

  async any_byte_is_data() {
    for (const RESP of [2, 3]) {
      const client = await connect({ RESP, ...raw });
      await client.flushAll();
      const every = Buffer.from(times(256, Number));
      for (const data of [every, Buffer.alloc(0), Buffer.from('\r\n'), Buffer.from('_\r\n'), Buffer.from('größe €')]) {
        await client.set(data, data);
        assert.deepEqual(await client.get(data), data);
        await client.hSet('hash', data, data);
        assert.deepEqual(await client.hGet('hash', data), data);
        await client.sAdd('set', data);
        assert.equal(await client.sIsMember('set', data), 1);
        assert.deepEqual(await client.echo(data), data);
      }
      await client.restore('copy', 0, await client.dump(every));
      assert.deepEqual(await client.get('copy'), every);
    }
  },

  async errors_have_their_kinds() {
    for (const RESP of [2, 3]) {
      const client = await connect({ RESP });
      await client.flushAll();
      await client.set('text', 'x');
      const error = await rejects(client.lPush('text', 'y'), 'WRONGTYPE Operation against a key holding the wrong kind');
      assert.ok(error instanceof ErrorReply);
      await rejects(client.incr('text'), 'ERR value is not an integer or out of range');
      await rejects(client.sendCommand(['GET']), "ERR wrong number of arguments for 'get' command");
      await rejects(client.sendCommand(['NOSUCH', 'a']), "ERR unknown command 'NOSUCH', with args beginning with: 'a' ");
      const refused = client.multi().set('a', '1').addCommand(['NOSUCH']).exec();
      await rejects(refused, "ERR unknown command 'NOSUCH'");
      assert.equal(await client.get('a'), null);
      const failed = await rejects(client.multi().set('a', '1').lPush('text', 'x').set('b', '2').exec(), '1 commands failed');
      assert.deepEqual([failed.replies[0], failed.replies[2]], ['OK', 'OK']);
      assert.match(failed.replies[1].message, /^WRONGTYPE /);
      const replica = await connect({ at: Number(await ask('replica')), RESP });
      await rejects(replica.set('x', 'y'), "READONLY You can't write against a read only replica.");
    }
  },

  async replicas_answer_reads() {
    const replica = await connect({ at: Number(await ask('replica')), RESP: 3 });
    const client = await connect({ RESP: 3 });
    await Promise.all(times(1000, (n) => client.set(`key:${n}`, String(n))));
    await client.setEx('brief', 100, 'x');
    assert.equal(await client.wait(1, 20_000), 1);
    assert.deepEqual(await replica.mGet(times(1000, (n) => `key:${n}`)), times(1000, String));
    assert.ok((await replica.ttl('brief')) > 90);
    const role = await replica.role();
    assert.deepEqual([role.role, role.master.port, role.state], ['slave', port, 'connected']);
    const got = [];
    await replica.subscribe('news', (message) => got.push(message));
    await client.publish('news', 'from the master');
    await eventually(() => got.length === 1, 'the message');
  },

  async replies_have_their_types() {
    const third = await connect({ RESP: 3 });
    for (const [kind, wanted] of [
      ['string', 'Hello World'],
      ['integer', 12345],
      ['double', 3.141],
      ['null', null],
      ['array', [0, 1, 2]],
      ['set', [0, 1, 2]],
      ['bignum', '1234567999999999999999999999999999999'],
      ['true', true],
      ['false', false],
      ['verbatim', 'This is a verbatim\nstring'],
    ]) {
      const got = await third.sendCommand(['DEBUG', 'PROTOCOL', kind]);
      assert.deepEqual(typeof got === 'bigint' ? String(got) : got, wanted, kind);
    }
    for (const RESP of [2, 3]) {
      const client = await connect({ RESP });
      await client.flushAll();
      await client.hSet('hash', { a: '1', b: '2' });
      assert.deepEqual({ ...(await client.hGetAll('hash')) }, { a: '1', b: '2' });
      await client.zAdd('zset', [{ value: 'low', score: 1 }, { value: 'high', score: 2.5 }]);
      assert.equal(await client.zScore('zset', 'high'), 2.5);
      assert.equal(await client.zIncrBy('zset', 0.1, 'high'), 2.6);
      assert.deepEqual(await client.zRangeWithScores('zset', 0, 0), [{ value: 'low', score: 1 }]);
      assert.deepEqual(await client.zmScore('zset', ['low', 'x']), [1, null]);
      await client.sAdd('set', ['1', '2']);
      assert.deepEqual((await client.sMembers('set')).sort(), ['1', '2']);
      await client.geoAdd('geo', { longitude: 13.361389, latitude: 38.115556, member: 'Palermo' });
      const [place] = await client.geoPos('geo', 'Palermo');
      assert.ok(Math.abs(Number(place.longitude) - 13.361389) < 0.0001);
      assert.equal((await client.configGet('maxmemory-policy'))['maxmemory-policy'], 'noeviction');
      assert.equal(await client.set('text', 'x', { EX: 100, GET: true }), null);
      assert.equal(await client.getEx('text', { type: 'PERSIST' }), 'x');
      assert.deepEqual(await client.commandGetKeys(['MSET', 'a', '1', 'b', '2']), ['a', 'b']);
      assert.equal((await client.command()).length, await client.commandCount());
      assert.equal(await client.objectEncoding('hash'), 'listpack');
      assert.equal((await client.clientList())[0].user, 'default');
      const seen = [];
      const monitor = await connect({ RESP });
      await monitor.monitor((line) => seen.push(line));
      await client.set('a', 'b');
      await eventually(() => seen.some((line) => line.endsWith('"SET" "a" "b"')), 'the command is seen');
    }
  },
};

await run(flows);
