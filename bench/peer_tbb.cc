// SPDX-License-Identifier: MIT
// oneTBB: task_arena::enqueue with no place for the caller's thread. It has no futures, so each task has a flag that the
// caller waits on, oldest first; C++20's atomic wait spins a little and then sleeps.
#include <atomic>
#include <memory>
#include <tbb/global_control.h>
#include <tbb/task_arena.h>
#include "bench.h"
#include "peers.h"

namespace {

struct Item {
	uint64_t in, out;
	std::atomic<int> done;
};

struct Peer {
	tbb::global_control limit;
	tbb::task_arena arena;
	explicit Peer(int workers)
		: limit(tbb::global_control::max_allowed_parallelism, static_cast<size_t>(workers) + 1), arena(workers, 0) {}
};

void *peer_open(const char *, int workers)
{
	return new Peer(workers);
}

int64_t peer_run(void *pool, long n, long window)
{
	Peer *peer = static_cast<Peer *>(pool);
	std::unique_ptr<Item[]> items(new Item[static_cast<size_t>(window)]);
	int64_t start = bench_now();

	for (long i = 0; i < n + window; i++) {
		Item *item = &items[static_cast<size_t>(i & (window - 1))];
		if (i >= window && i - window < n) {
			item->done.wait(0, std::memory_order_acquire);
			if (item->out != item->in + 1)
				bench_die("oneTBB: a wrong result");
		}
		if (i < n) {
			item->in = static_cast<uint64_t>(i);
			item->done.store(0, std::memory_order_relaxed);
			peer->arena.enqueue([item] {
				item->out = item->in + 1;
				item->done.store(1, std::memory_order_release);
				item->done.notify_one();
			});
		}
	}
	return bench_now() - start;
}

void peer_close(void *pool)
{
	delete static_cast<Peer *>(pool);
}

}

const struct bench_side bench_tbb = { "oneTBB enqueue", peer_open, peer_run, peer_close };
