"""Queues of jobs: Celery, Huey, RQ and arq, each with its workers and a thousand jobs.

Every job counts its runs in a hash. Most run once; some fail the first time and are tried again; some are delayed and
tell when they ran. None may be lost, none may run twice.
"""

import asyncio
import contextlib
import datetime
import logging
import multiprocessing
import os
import signal
import time

import redis
from flow import chosen, eventually, port

JOBS = 1000
DELAYED = 20
DELAY = 1.0
# How much later than wanted a delayed job may come, with the clock of the slowest scheduler, which ticks once a second.
LATE = 5.0
RUNS, TIMES = "test:runs", "test:times"


def connect():
    return redis.Redis(port=port())


def fails_first(number):
    return number % 50 == 7


def run(client, number):
    """What every job does. True if it is to fail, and to be tried again."""
    runs = client.hincrby(RUNS, number, 1)
    if number >= JOBS:
        client.hset(TIMES, number, time.time())
    return number < JOBS and fails_first(number) and runs == 1


def check(begin):
    """Waits until all jobs have run, and looks at how."""
    client = connect()
    eventually_all = lambda: client.hlen(RUNS) == JOBS + DELAYED and client.hget(RUNS, 957) == b"2"
    eventually(eventually_all, "all jobs have run", seconds=90)
    runs = {int(number): int(count) for number, count in client.hgetall(RUNS).items()}
    wanted = {number: 2 if number < JOBS and fails_first(number) else 1 for number in range(JOBS + DELAYED)}
    assert runs == wanted, {number: count for number, count in runs.items() if wanted[number] != count}
    for number, at in client.hgetall(TIMES).items():
        late = float(at) - begin - DELAY
        assert -0.05 < late < LATE, f"delayed job {number} came {late:.3f} s after its time"


@contextlib.contextmanager
def workers(target, count):
    """Worker processes, as long as they are needed."""
    processes = [multiprocessing.Process(target=target) for _ in range(count)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            os.kill(process.pid, signal.SIGTERM)
        for process in processes:
            process.join(5)
            process.kill()


def celery_app():
    import celery

    app = celery.Celery("jobs", broker=f"redis://127.0.0.1:{port()}/0", backend=f"redis://127.0.0.1:{port()}/1")
    app.conf.update(broker_connection_retry_on_startup=True, worker_hijack_root_logger=False, task_acks_late=True)

    @app.task(bind=True, name="job", max_retries=3)
    def job(self, number):
        if run(connect(), number):
            raise self.retry(countdown=0.2)
        return 2 * number

    return app, job


def celery_worker():
    app, _ = celery_app()
    options = ["--pool=threads", "--concurrency=4", "--loglevel=ERROR", "--without-gossip", "--without-mingle"]
    app.worker_main(["worker", *options])


def celery_runs_each_job_once():
    app, job = celery_app()
    with workers(celery_worker, 2):
        begin = time.time()
        delayed = [job.apply_async((number,), countdown=DELAY) for number in range(JOBS, JOBS + DELAYED)]
        results = [job.delay(number) for number in range(JOBS)]
        check(begin)
        metas = lambda: [app.backend.get_task_meta(result.id) for result in [*results, *delayed]]
        eventually(lambda: all(meta["status"] == "SUCCESS" for meta in metas()), "all jobs have results")
        assert [meta["result"] for meta in metas()] == [2 * number for number in range(JOBS + DELAYED)]


def huey_queue():
    import huey

    queue = huey.RedisHuey("jobs", port=port())

    @queue.task(name="job", retries=3, retry_delay=0)
    def job(number):
        if run(connect(), number):
            raise ValueError("not yet")
        return 2 * number

    return queue, job


def huey_worker():
    logging.disable(logging.ERROR)
    queue, _ = huey_queue()
    queue.create_consumer(workers=4, periodic=False, initial_delay=0.01, max_delay=0.05).run()


def huey_runs_each_job_once():
    queue, job = huey_queue()
    with workers(huey_worker, 1):
        begin = time.time()
        delayed = [job.schedule((number,), delay=DELAY) for number in range(JOBS, JOBS + DELAYED)]
        results = [job(number) for number in range(JOBS)]
        check(begin)
        values = [result(blocking=True, timeout=30) for result in [*results, *delayed]]
        assert values == [2 * number for number in range(JOBS + DELAYED)]


def rq_job(number):
    if run(connect(), number):
        raise ValueError("not yet")
    return 2 * number


def rq_worker():
    import rq

    rq.SimpleWorker(["default"], connection=connect()).work(with_scheduler=True, logging_level="CRITICAL")


def rq_runs_each_job_once():
    import rq

    queue = rq.Queue(connection=connect())
    with workers(rq_worker, 3):
        begin = time.time()
        delay = datetime.timedelta(seconds=DELAY)
        delayed = [queue.enqueue_in(delay, "jobs.rq_job", number) for number in range(JOBS, JOBS + DELAYED)]
        retry = rq.Retry(max=3)
        jobs = [queue.enqueue("jobs.rq_job", number, retry=retry) for number in range(JOBS)]
        check(begin)
        eventually(lambda: queue.finished_job_registry.count == JOBS + DELAYED, "all jobs are finished")
        for number in range(0, JOBS, 97):
            assert jobs[number].latest_result().return_value == 2 * number
        assert delayed[3].is_finished


async def arq_job(ctx, number):
    import arq

    if run(ctx["client"], number):
        raise arq.Retry(defer=0.2)
    return 2 * number


async def arq_all():
    import arq

    settings = arq.connections.RedisSettings(port=port())
    pool = await arq.create_pool(settings)
    worker = arq.Worker(
        [arq_job], redis_settings=settings, handle_signals=False, poll_delay=0.05, max_jobs=20, max_tries=5,
        ctx={"client": connect()},
    )
    working = asyncio.create_task(worker.async_run())
    begin = time.time()
    delayed = [await pool.enqueue_job("arq_job", number, _defer_by=DELAY) for number in range(JOBS, JOBS + DELAYED)]
    jobs = [await pool.enqueue_job("arq_job", number) for number in range(JOBS)]
    # The same job is not taken twice.
    assert await pool.enqueue_job("arq_job", 0, _job_id=jobs[0].job_id) is None
    values = [await job.result(timeout=90, poll_delay=0.05) for job in [*jobs, *delayed]]
    assert values == [2 * number for number in range(JOBS + DELAYED)]
    await worker.close()
    working.cancel()
    check(begin)


def arq_runs_each_job_once():
    asyncio.run(arq_all())


if __name__ == "__main__":
    chosen(globals())()
