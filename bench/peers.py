# SPDX-License-Identifier: MIT
"""Peers in Python. Arguments: which, and how many workers. Says "ready", or exits with 77 when the module is absent; then
for each line "N WINDOW" on stdin runs N tasks, at most WINDOW of them outstanding, checks each result, and prints the
nanoseconds that it took. "0 0" makes a new pool and prints how long it took until its workers were ready; "-1 0" shuts it
down, and prints how long that took."""
import collections
import os
import sys
import time


def add_one(value):
    return value + 1


def pid(_):
    time.sleep(0.001)
    return os.getpid()


def make(name, workers):
    if name == "ProcessPoolExecutor":
        from concurrent.futures import ProcessPoolExecutor
        return ProcessPoolExecutor(workers)
    if name == "ThreadPoolExecutor":
        from concurrent.futures import ThreadPoolExecutor
        return ThreadPoolExecutor(workers)
    if name == "pebble":
        import pebble

        class Pool(pebble.ProcessPool):
            def submit(self, fn, value):
                return self.schedule(fn, args=[value])

            def shutdown(self):
                self.close()
                self.join()
        return Pool(max_workers=workers)
    if name == "loky":
        try:
            import loky
        except ImportError:
            from joblib.externals import loky
        return loky.ProcessPoolExecutor(workers)
    raise ImportError(name)


def run(pool, n, window):
    futures = collections.deque()
    start = time.monotonic_ns()
    for i in range(n):
        if len(futures) == window:
            take(futures)
        futures.append((i, pool.submit(add_one, i)))
    while futures:
        take(futures)
    return time.monotonic_ns() - start


def take(futures):
    value, future = futures.popleft()
    if future.result() != value + 1:
        sys.exit("a wrong result")


def start(name, workers):
    before = time.monotonic_ns()
    pool = make(name, workers)
    seen = set()
    while len(seen) < workers:
        seen |= {f.result() for f in [pool.submit(pid, i) for i in range(workers)]}
    return pool, time.monotonic_ns() - before


def stop(pool):
    before = time.monotonic_ns()
    pool.shutdown()
    return time.monotonic_ns() - before


def main():
    name, workers = sys.argv[1], int(sys.argv[2])
    try:
        pool = make(name, workers)
        run(pool, 2 * workers, workers)
    except ImportError:
        sys.exit(77)
    print("ready", flush=True)
    for line in sys.stdin:
        n, window = map(int, line.split())
        if n == 0:
            second, took = start(name, workers)
        else:
            took = run(pool, n, window) if n > 0 else stop(second)
        print(took, flush=True)
    pool.shutdown()


if __name__ == "__main__":
    main()
