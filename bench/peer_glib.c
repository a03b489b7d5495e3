/* SPDX-License-Identifier: MIT */
/* GLib: GThreadPool (exclusive threads) runs the tasks, a GAsyncQueue brings the results back. */
#include <glib.h>
#include "bench.h"
#include "peers.h"

struct item { uint64_t in, out; };

struct peer {
	GThreadPool *pool;
	GAsyncQueue *results;
};

static void work(gpointer data, gpointer user_data)
{
	struct item *item = data;
	struct peer *peer = user_data;

	item->out = item->in + 1;
	g_async_queue_push(peer->results, item);
}

static void *peer_open(const char *name, int workers)
{
	struct peer *peer = g_new0(struct peer, 1);

	(void)name;
	peer->results = g_async_queue_new();
	peer->pool = g_thread_pool_new(work, peer, workers, TRUE, NULL);
	if (!peer->pool)
		bench_die("g_thread_pool_new");
	return peer;
}

static void push(struct peer *peer, struct item *item, long i)
{
	item->in = (uint64_t)i;
	if (!g_thread_pool_push(peer->pool, item, NULL))
		bench_die("g_thread_pool_push");
}

static int64_t peer_run(void *pool, long n, long window)
{
	struct peer *peer = pool;
	struct item *items = g_new0(struct item, window), *item;
	int64_t start = bench_now(), took;
	long submitted = 0;

	while (submitted < n && submitted < window) {
		push(peer, items + submitted, submitted);
		submitted++;
	}
	for (long i = 0; i < n; i++) {
		item = g_async_queue_pop(peer->results);
		if (item->out != item->in + 1)
			bench_die("GLib: a wrong result");
		if (submitted < n)
			push(peer, item, submitted++);
	}
	took = bench_now() - start;
	g_free(items);
	return took;
}

static void peer_close(void *pool)
{
	struct peer *peer = pool;

	g_thread_pool_free(peer->pool, FALSE, TRUE);
	g_async_queue_unref(peer->results);
	g_free(peer);
}

const struct bench_side bench_glib = { "GLib GThreadPool + GAsyncQueue", peer_open, peer_run, peer_close };
