/* SPDX-License-Identifier: MIT */
/*
 * Map: the inputs of a source through a function, some of them ahead of whoever takes the results, so that an endless
 * input needs no more memory than that. Here results are awaited and given; map_take.c takes the inputs.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "chunk.h"
#include "map.h"

/* ------------------------------------------------------------------ giving results */

static int64_t left_ms(const pp_map *map)
{
	int64_t left;

	if (map->deadline == PP__NEVER)
		return PP_FOREVER;
	left = map->deadline - pp__now_ns();
	return left <= 0 ? 0 : left / 1000000 + 1;
}

/* Nothing was heard for a slice: what cannot end any more through its worker has to be found. */
static void tend(pp_map *map)
{
	uint32_t looks = PP__SLAB;

	pp__tend(map->executor);
	for (struct pp__batch *b = map->head; b && looks; b = b->next, looks--)
		if (b->future && !b->opened)
			pp__tend_future(b->future);
}

static bool any_runs(const pp_map *map)
{
	for (const struct pp__batch *b = map->head; b; b = b->next)
		if (b->future)
			return true;
	return false;
}

/* The one that ended first of those that were not opened. pp__lock held, given up meanwhile. */
static int await_ready(pp_map *map, struct pp__batch **batch)
{
	struct pp__wait *wait = &map->wait;
	struct pp__watcher *watcher;

	while (!wait->ready) {
		int64_t started = pp__now_ns();
		size_t before = wait->settled;
		if (!pp__await_news(map->executor, map->deadline) && !wait->ready)
			return -ETIMEDOUT;
		if (wait->settled != before || pp__now_ns() - started < PP__SLICE_NS)
			continue;
		pthread_mutex_unlock(&pp__lock);
		tend(map);
		pthread_mutex_lock(&pp__lock);
	}
	watcher = wait->ready;
	wait->ready = watcher->next;
	if (!wait->ready)
		wait->ready_end = &wait->ready;
	*batch = watcher->context;
	return 0;
}

/* What comes behind it waits for it, so this may wait as well. */
static int submit_head(pp_map *map)
{
	int rc = pp__batch_submit(map, map->head, true, NULL, 0);

	return rc == -EAGAIN && pp__now_ns() >= map->deadline ? -ETIMEDOUT : rc;
}

static int await_any(pp_map *map, struct pp__batch **batch)
{
	int rc = 0;

	if (map->unsubmitted && !any_runs(map) && !map->wait.ready) {
		rc = submit_head(map);
		if (rc < 0)
			return rc;
	}
	pthread_mutex_lock(&pp__lock);
	rc = await_ready(map, batch);
	pthread_mutex_unlock(&pp__lock);
	return rc;
}

static int await_first(pp_map *map, struct pp__batch **batch)
{
	struct pp__batch *head = map->head;
	int rc = 0;

	if (!head->future && !head->verdict)
		rc = submit_head(map);
	if (rc == 0 && head->future)
		rc = pp_future_result(head->future, left_ms(map), NULL);
	*batch = head;
	return rc;
}

/* It could not be opened this time. */
static void put_back(pp_map *map, struct pp__batch *batch)
{
	if (!map->options.unordered)
		return;
	pthread_mutex_lock(&pp__lock);
	batch->watcher.next = map->wait.ready;
	if (!map->wait.ready)
		map->wait.ready_end = &batch->watcher.next;
	map->wait.ready = &batch->watcher;
	pthread_mutex_unlock(&pp__lock);
}

/* Out of the list, with its future. */
static void finish(pp_map *map, struct pp__batch *batch)
{
	pthread_mutex_lock(&map->lock);
	*batch->at = batch->next;
	if (batch->next)
		batch->next->at = batch->at;
	else
		map->end = batch->at;
	map->finished += batch->count;
	pthread_mutex_unlock(&map->lock);
	pp__batch_free(map, batch);
}

/* Makes a batch the current one that has something to give. 1; 0 at the end. */
static int advance(pp_map *map)
{
	struct pp__batch *batch;
	int rc;

	for (;;) {
		if (map->current && map->current->given < map->current->count)
			return 1;
		if (map->current)
			finish(map, map->current);
		map->current = NULL;
		rc = pp__map_refill(map, map->given + 1);
		if (!map->head)
			return map->ended ? map->error : rc < 0 ? rc : -ETIMEDOUT;
		rc = map->options.unordered ? await_any(map, &batch) : await_first(map, &batch);
		if (rc < 0)
			return rc;
		rc = pp__batch_open(map, batch);
		if (rc < 0) {
			put_back(map, batch);
			return rc;
		}
		map->current = batch;
	}
}

int pp_map_next(pp_map *map, uint64_t *index, const pp_outcome **outcome)
{
	const pp_outcome *made;
	uint64_t made_index;
	int rc;

	if (outcome)
		*outcome = NULL;
	if (!pp__is_original_process())
		return -ECHILD;
	if (!map)
		return -EINVAL;
	rc = advance(map);
	if (rc != 1)
		return rc;
	made_index = map->current->first + map->current->given;
	made = pp__batch_give(map, map->current);
	if (!made)
		return -ENOMEM;
	if (index)
		*index = made_index;
	if (outcome)
		*outcome = made;
	map->given++;
	return 1;
}

int pp_map_progress(const pp_map *map_, uint64_t *done, uint64_t *total)
{
	pp_map *map = (pp_map *)(uintptr_t)map_;
	uint64_t n;
	int ended;

	if (!pp__is_original_process())
		return -ECHILD;
	if (!map)
		return -EINVAL;
	pthread_mutex_lock(&map->lock);
	n = map->finished;
	for (struct pp__batch *b = map->head; b; b = b->next)
		n += pp__batch_done(b);
	if (done)
		*done = n;
	if (total)
		*total = map->pulled;
	ended = map->ended;
	pthread_mutex_unlock(&map->lock);
	return ended;
}

/* ------------------------------------------------------------------ making and freeing */

static void cancel(struct pp__batch *batch)
{
	pp_future *future = batch->future;

	if (!future || batch->opened)
		return;
	if (future->chunk)
		pp__chunk_close(&future->executor->segment.shared, future->slot, future->generation, batch->count);
	pp_future_cancel(future);
}

void pp_map_free(pp_map *map)
{
	struct pp__batch *next;

	if (!map || !pp__is_original_process())
		return;
	for (struct pp__batch *b = map->head; b; b = b->next)
		cancel(b);
	for (struct pp__batch *b = map->head; b; b = next) {
		next = b->next;
		pp__batch_free(map, b);
	}
	free(map->spare.bytes);
	free(map->box.owned);
	pthread_mutex_destroy(&map->lock);
	free(map);
}

static pp_map *make(pp_executor *ex, const pp_map_options *o, const pp_task_options *task, pp_fn *fn,
                    pp_map_source *source, void *context)
{
	pp_map *map = calloc(1, sizeof *map);

	if (!map)
		return NULL;
	*map = (pp_map){ .executor = ex, .fn = fn, .source = source, .context = context, .options = *o, .task = *task };
	strncpy(map->name, task->name ? task->name : "", PP__NAME_MAX);
	map->task.name = map->name;
	map->options.task = &map->task;
	if (pp__policy_is_wanted(ex, task))
		map->options.chunk = 1;
	map->deadline = pp__deadline_ns(o->timeout_ms ? o->timeout_ms : PP_FOREVER);
	map->last_chunk = 1;
	map->end = &map->head;
	map->wait.ready_end = &map->wait.ready;
	pp__box_init(&map->box);
	pthread_mutex_init(&map->lock, NULL);
	return map;
}

static int refusal(const pp_map *map)
{
	return map->head->verdict == PP_BROKEN ? -EPIPE : map->error ? map->error : -ESHUTDOWN;
}

int pp_map_create(pp_executor *ex, const pp_map_options *options, pp_fn *fn, pp_map_source *source, void *context,
                  pp_map **map)
{
	pp_map_options o;
	pp_task_options task;
	int rc;

	if (map)
		*map = NULL;
	if (!pp__is_original_process())
		return -ECHILD;
	if (!ex || !fn || !source || !map)
		return -EINVAL;
	rc = pp__map_options_read(&o, options);
	if (rc == 0)
		rc = pp__task_options_read(&task, o.task);
	if (rc == 0 && task.fd_count)
		rc = -EINVAL;            /* they would have to be kept open for the tasks to come */
	if (rc < 0)
		return rc;
	if (o.chunk > 1 && pp__policy_is_wanted(ex, &task))
		return -EINVAL;
	if (!pp__code_is_known(ex->code, fn))
		return -EFAULT;
	*map = make(ex, &o, &task, fn, source, context);
	if (!*map)
		return -ENOMEM;
	rc = pp__map_refill(*map, 0);
	if ((*map)->refused || (rc < 0 && rc != -EAGAIN && !any_runs(*map))) {
		rc = (*map)->refused ? refusal(*map) : rc;
		pp_map_free(*map);
		*map = NULL;
		return rc;
	}
	return 0;
}
