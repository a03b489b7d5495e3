# SPDX-License-Identifier: MIT
"""Peers in Python. Arguments: which, and how many workers. Says "ready", or exits with 77 when the module is absent; then
for each line "N WINDOW" on stdin runs N tasks, at most WINDOW of them outstanding, checks each result, and prints the
nanoseconds that it took. "0 0" makes a new pool and prints how long it took until its workers were ready; "-1 0" shuts it
down, and prints how long that took.
With "ProcessPoolExecutor, bytes" or "ProcessPoolExecutor, shared_memory" the line is "N SIZE": N trips, one after the
other, with SIZE bytes that the task changes and the caller reads, or -SIZE bytes of which the task gives back a checksum."""
import collections
import os
import sys
import time
import zlib

CHANGED = bytes(255 - i for i in range(256))


def add_one(value):
    return value + 1


def pid(_):
    time.sleep(0.001)
    return os.getpid()


def make(name, workers):
    if name.split(",")[0] == "ProcessPoolExecutor":
        from multiprocessing import resource_tracker
        resource_tracker.ensure_running()        # one for all: a worker's own would unlink the memory a second time
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


def change_bytes(data):
    return data.translate(CHANGED)


def check_bytes(data):
    return zlib.adler32(data)


def attach(name):
    global shared
    from multiprocessing import shared_memory
    if "shared" not in globals():
        shared = shared_memory.SharedMemory(name)
    return shared.buf


def change_shared(name, size):
    buffer = attach(name)
    buffer[:size] = bytes(buffer[:size]).translate(CHANGED)


def check_shared(name, size):
    return zlib.adler32(attach(name)[:size])


def trips_bytes(pool, n, size, echo):
    global source
    if "source" not in globals():
        source = os.urandom(size)
    data = source
    expected = zlib.adler32(data.translate(CHANGED) if echo else data)
    start = time.monotonic_ns()
    for _ in range(n):
        if echo:
            got = zlib.adler32(pool.submit(change_bytes, data).result())
        else:
            got = pool.submit(check_bytes, data).result()
        if got != expected:
            sys.exit("a wrong result")
    return time.monotonic_ns() - start


def trips_shared(pool, n, size, echo):
    global memory
    from multiprocessing import shared_memory
    if "memory" not in globals():
        memory = shared_memory.SharedMemory(create=True, size=size)
        memory.buf[:size] = os.urandom(size)
    both = [zlib.adler32(memory.buf[:size]), zlib.adler32(bytes(memory.buf[:size]).translate(CHANGED))]
    start = time.monotonic_ns()
    for _ in range(n):
        if echo:
            pool.submit(change_shared, memory.name, size).result()
            got = zlib.adler32(memory.buf[:size])
            both.reverse()
        else:
            got = pool.submit(check_shared, memory.name, size).result()
        if got != both[0]:
            sys.exit("a wrong result")
    return time.monotonic_ns() - start


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
        if "," in name:
            trips = trips_bytes if name.endswith("bytes") else trips_shared
            took = trips(pool, n, abs(window), window > 0)
        elif n == 0:
            second, took = start(name, workers)
        else:
            took = run(pool, n, window) if n > 0 else stop(second)
        print(took, flush=True)
    pool.shutdown()
    if "memory" in globals():
        memory.unlink()


if __name__ == "__main__":
    main()
