"""Celery as its users use it, with the address given as broker and as store of results: HOST PORT DATABASE. A line a step.

In a cluster all its keys are of one slot (`global_keyprefix`): it pops from several lists at a time, moves what is not acknowledged in a
transaction, and counts the parts of a chord in one."""

import os
import subprocess
import sys
import time

from celery import Celery, chain, chord, group

# Its worker is this file, too, without arguments of ours.
url = os.environ.get("CELERY_URL") or "redis://{}:{}/{}".format(*sys.argv[1:4])
app = Celery("celery_tasks", broker=url, backend=url)
app.conf.broker_transport_options = {"global_keyprefix": "{celery}"}
app.conf.result_backend_transport_options = {"global_keyprefix": "{celery}"}
app.conf.worker_hijack_root_logger = False


@app.task
def add(one, two):
    return one + two


@app.task
def total(numbers):
    return sum(numbers)


@app.task(bind=True, max_retries=3)
def stubborn(self):
    if self.request.retries < 2:
        raise self.retry(countdown=0.1)
    return self.request.retries


def done(step):
    print("ok", step, flush=True)


def main():
    worker = [sys.executable, "-m", "celery", "--app", "celery_tasks", "worker", "--pool", "threads", "--concurrency", "4", "--loglevel", "ERROR"]
    process = subprocess.Popen(worker, env={**os.environ, "PYTHONPATH": os.path.dirname(__file__), "CELERY_URL": url}, stdout=subprocess.DEVNULL)
    try:
        assert add.delay(1, 2).get(timeout=60) == 3
        done("a task")
        results = [add.delay(number, number) for number in range(200)]
        assert [result.get(timeout=60) for result in results] == [2 * number for number in range(200)]
        assert group(add.s(number, 1) for number in range(20)).apply_async().get(timeout=60) == list(range(1, 21))
        done("many, and a group")
        assert chain(add.s(1, 2), add.s(3)).apply_async().get(timeout=60) == 6
        assert chord([add.s(number, 0) for number in range(10)], total.s()).apply_async().get(timeout=60) == 45
        done("a chain, and a chord")
        assert stubborn.delay().get(timeout=60) == 2
        assert add.apply_async((1, 1), countdown=0.5).get(timeout=60) == 2
        done("a task that is tried again, and one that waits")
    finally:
        process.terminate()
        process.wait(timeout=30)


if __name__ == "__main__":
    main()
