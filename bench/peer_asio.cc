// SPDX-License-Identifier: MIT
// Boost.Asio: thread_pool, and a std::future of each task.
#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_future.hpp>
#include <future>
#include <vector>
#include "bench.h"
#include "peers.h"

namespace {

void *peer_open(const char *, int workers)
{
	return new boost::asio::thread_pool(static_cast<size_t>(workers));
}

int64_t peer_run(void *pool_, long n, long window)
{
	boost::asio::thread_pool &pool = *static_cast<boost::asio::thread_pool *>(pool_);
	std::vector<std::future<uint64_t>> futures(static_cast<size_t>(window));
	int64_t start = bench_now();

	for (long i = 0; i < n + window; i++) {
		std::future<uint64_t> &future = futures[static_cast<size_t>(i & (window - 1))];
		if (i >= window && i - window < n && future.get() != static_cast<uint64_t>(i - window) + 1)
			bench_die("Boost.Asio: a wrong result");
		if (i < n)
			future = boost::asio::post(pool, boost::asio::use_future([i] { return static_cast<uint64_t>(i) + 1; }));
	}
	return bench_now() - start;
}

void peer_close(void *pool_)
{
	boost::asio::thread_pool *pool = static_cast<boost::asio::thread_pool *>(pool_);

	pool->join();
	delete pool;
}

}

const struct bench_side bench_asio = { "Boost.Asio thread_pool, futures", peer_open, peer_run, peer_close };
