"""rq, a queue of jobs: what it does with nothing but data, keys that wait for others, and transactions."""

import multiprocessing

import redis
import rq
from flow import chosen, eventually, port


def connect():
    return redis.Redis(port=port())


def double(number):
    """The job: what it did is seen in a hash, so that one that ran twice shows."""
    connect().hincrby("runs", str(number), 1)
    if number % 10 == 9:
        raise ValueError(f"{number} is not wanted")
    return 2 * number


def work():
    client = connect()
    rq.SimpleWorker(["urgent", "default"], connection=client).work(burst=True, logging_level="WARNING")


def jobs_run_once_and_leave_their_results():
    client = connect()
    queue, urgent = rq.Queue("default", connection=client), rq.Queue("urgent", connection=client)
    jobs = [(urgent if number % 2 else queue).enqueue("rq_jobs.double", number) for number in range(60)]
    last = queue.enqueue("rq_jobs.double", 60, depends_on=jobs[0])
    assert len(queue) + len(urgent) == 60
    workers = [multiprocessing.Process(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0, worker
    eventually(lambda: last.get_status() == "finished", "the job that waited for another")
    assert client.hgetall("runs") == {str(number).encode(): b"1" for number in range(61)}
    for number, job in enumerate([*jobs, last]):
        result = job.latest_result()
        if number % 10 == 9:
            assert job.is_failed and f"{number} is not wanted" in result.exc_string
        else:
            assert job.is_finished and result.return_value == 2 * number
    failed = queue.failed_job_registry.count + urgent.failed_job_registry.count
    assert failed == 6 and len(queue) + len(urgent) == 0


if __name__ == "__main__":
    chosen(globals())()
