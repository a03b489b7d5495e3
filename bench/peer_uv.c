/* SPDX-License-Identifier: MIT */
/*
 * libuv: uv_queue_work, the result taken in the loop's thread. Its pool of threads is one per process, sized by the
 * environment at the first use.
 */
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>
#include "bench.h"
#include "peers.h"

struct item {
	uv_work_t    req;
	struct peer *peer;
	uint64_t     in, out;
};

struct peer {
	uv_loop_t loop;
	long      left;                  /* to be queued */
	uint64_t  next;
};

static void work(uv_work_t *req)
{
	struct item *item = (struct item *)req;

	item->out = item->in + 1;
}

static void after(uv_work_t *req, int status);

static void queue(struct item *item)
{
	item->in = item->peer->next++;
	item->peer->left--;
	if (uv_queue_work(&item->peer->loop, &item->req, work, after) < 0)
		bench_die("uv_queue_work");
}

static void after(uv_work_t *req, int status)
{
	struct item *item = (struct item *)req;

	if (status != 0 || item->out != item->in + 1)
		bench_die("libuv: a wrong result");
	if (item->peer->left > 0)
		queue(item);
}

static void *peer_open(const char *name, int workers)
{
	struct peer *peer = calloc(1, sizeof *peer);
	char text[16];

	(void)name;
	snprintf(text, sizeof text, "%d", workers);
	setenv("UV_THREADPOOL_SIZE", text, 1);
	if (!peer || uv_loop_init(&peer->loop) < 0)
		bench_die("uv_loop_init");
	return peer;
}

static int64_t peer_run(void *pool, long n, long window)
{
	struct peer *peer = pool;
	struct item *items = calloc((size_t)window, sizeof *items);
	int64_t start = bench_now(), took;

	if (!items)
		bench_die("no memory");
	peer->left = n;
	for (long i = 0; i < window && peer->left > 0; i++) {
		items[i].peer = peer;
		queue(items + i);
	}
	uv_run(&peer->loop, UV_RUN_DEFAULT);
	took = bench_now() - start;
	free(items);
	return took;
}

static void peer_close(void *pool)
{
	struct peer *peer = pool;

	uv_loop_close(&peer->loop);
	free(peer);
}

const struct bench_side bench_uv = { "libuv uv_queue_work", peer_open, peer_run, peer_close };
