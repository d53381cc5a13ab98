// Queues of jobs: BullMQ and bee-queue, each with workers and a thousand jobs; jobs.py tells what is asked of them.

import { setTimeout as sleep } from 'node:timers/promises';

import { eventually, library, port, run, times } from './flow.mjs';

const Redis = library('ioredis');
const JOBS = 1000;
const DELAYED = 20;
const DELAY = 1000;
const LATE = 5000;

const client = new Redis(port);
const failsFirst = (number) => number < JOBS && number % 50 === 7;

/** What every job does; it throws if it is to be tried again. */
async function work(number) {
  const runs = await client.hincrby('test:runs', number, 1);
  if (number >= JOBS) await client.hset('test:times', number, Date.now());
  if (failsFirst(number) && runs === 1) throw new Error('not yet');
  return 2 * number;
}

async function check(begin) {
  const done = async () =>
    (await client.hlen('test:runs')) === JOBS + DELAYED && (await client.hget('test:runs', 957)) === '2';
  await eventually(done, 'all jobs have run');
  const runs = await client.hgetall('test:runs');
  const wrong = Object.entries(runs).filter(([number, count]) => Number(count) !== (failsFirst(Number(number)) ? 2 : 1));
  if (wrong.length > 0) throw new Error(`runs of jobs: ${JSON.stringify(wrong)}`);
  for (const [number, at] of Object.entries(await client.hgetall('test:times'))) {
    const late = Number(at) - begin - DELAY;
    if (late < -50 || late > LATE) throw new Error(`delayed job ${number} came ${late} ms after its time`);
  }
}

async function bullmq_runs_each_job_once() {
  const { Queue, QueueEvents, Worker, FlowProducer } = library('bullmq');
  const connection = { host: '127.0.0.1', port, maxRetriesPerRequest: null };
  const queue = new Queue('jobs', { connection });
  const events = new QueueEvents('jobs', { connection });
  await events.waitUntilReady();
  let completed = 0;
  events.on('completed', () => completed++);
  const workers = times(2, () => new Worker('jobs', (job) => work(job.data), { connection, concurrency: 20 }));
  const begin = Date.now();
  const options = { attempts: 3, backoff: { type: 'fixed', delay: 100 } };
  await queue.addBulk(times(DELAYED, (n) => ({ name: 'job', data: JOBS + n, opts: { ...options, delay: DELAY } })));
  // Priorities, and jobs that wait for their children, have scripts of their own.
  const job = (n) => ({ name: 'job', data: n, opts: { ...options, priority: n % 10 === 3 ? 1 + (n % 7) : 0 } });
  await queue.addBulk(times(JOBS - 10, job));
  const family = new FlowProducer({ connection });
  await family.add({
    ...job(JOBS - 10),
    queueName: 'jobs',
    children: times(9, (n) => ({ ...job(JOBS - 9 + n), queueName: 'jobs' })),
  });
  await check(begin);
  await eventually(() => completed === JOBS + DELAYED, 'all jobs are completed');
  const counts = await queue.getJobCounts();
  if (counts.completed !== JOBS + DELAYED || counts.failed + counts.waiting + counts.active > 0)
    throw new Error(JSON.stringify(counts));
  await queue.obliterate();
  if ((await client.keys('bull:jobs:*')).length > 0) throw new Error('something of the queue is left');
}

async function bee_queue_runs_each_job_once() {
  const Queue = library('bee-queue');
  const settings = { redis: { host: '127.0.0.1', port }, activateDelayedJobs: true, nearTermWindow: 20_000 };
  const queue = new Queue('jobs', settings);
  queue.process(20, (job) => work(job.data));
  let succeeded = 0;
  queue.on('succeeded', () => succeeded++);
  await queue.ready();
  const begin = Date.now();
  const job = (number) => queue.createJob(number).retries(3).backoff('fixed', 100);
  await Promise.all(times(DELAYED, (n) => job(JOBS + n).delayUntil(begin + DELAY).save()));
  await Promise.all(times(JOBS, (n) => job(n).save()));
  await check(begin);
  await eventually(() => succeeded === JOBS + DELAYED, 'all jobs have succeeded');
  const health = await queue.checkHealth();
  if (health.succeeded !== JOBS + DELAYED || health.failed + health.waiting + health.active > 0)
    throw new Error(JSON.stringify(health));
  await queue.destroy();
  await sleep(0);
}

await run({ bullmq_runs_each_job_once, bee_queue_runs_each_job_once });
