/* SPDX-License-Identifier: MIT */
/*
 * A map's private half. Its inputs go into batches, in order; each batch is one submitted task: an item on its own,
 * or a chunk of several. A batch that ended before all of its items were started is cut in two, and its rest is
 * submitted again.
 *
 *   taken from the source ─▶ submitted ─▶ ended ─▶ opened (what became of each item is known) ─▶ given, freed
 *
 * One thread at a time is in create, next or free, and it alone changes anything; the lock is for those that ask for
 * the progress meanwhile.
 */
#ifndef PP_LIB_MAP_H
#define PP_LIB_MAP_H

#include <pthread.h>
#include "pool.h"

/* Items in the form of a chunk's argument. */
struct pp__pack {
	char  *bytes;
	size_t used, room;
};

struct pp__batch {
	struct pp__batch *next, **at;    /* in the order of the inputs; where the pointer to this one is */
	uint64_t    first;               /* index of its first item */
	uint32_t    count, given;
	bool        opened;
	int         verdict;             /* of all: PP_CANCELLED, PP_BROKEN, PP_RAISED when it could not be submitted; else 0 */
	pp_future  *future;              /* NULL: not submitted yet */
	struct pp__pack pack;            /* of one that could not be submitted so far */
	/* from its opening on, of a chunk: */
	const unsigned char *room, *overflow;    /* NULL: there is none, or it was overwritten */
	uint64_t    room_size, overflow_size;
	uint64_t    start_ns, opened_ns; /* start of the item to be given next; no end is later than the opening */
	struct pp__watcher watcher;      /* in an unordered map */
};

struct pp_map {
	pp_executor    *executor;
	pp_fn          *fn;
	pp_map_source  *source;
	void           *context;
	pp_map_options  options;
	pp_task_options task;
	char            name[PP__NAME_MAX + 1];
	int64_t         deadline;

	pthread_mutex_t lock;            /* what follows, for progress */
	struct pp__batch *head, **end;
	struct pp__batch *current;       /* being given */
	uint64_t        pulled;          /* items taken from the source */
	uint64_t        finished;        /* items of batches that are no longer in the list */
	bool            ended;           /* no more inputs are taken */

	uint64_t        given;
	uint64_t        unsubmitted;     /* batches */
	bool            refused;         /* a submit was: shut down, or broken */
	int             error;           /* what next says at the end: 0, the source's or the submit's */
	struct pp__box  box;             /* of the item given last */
	struct pp__pack spare;           /* buffer for the next batch */
	uint64_t        last_chunk;
	uint64_t        item_ns, item_bytes;     /* measured; 0: not yet */
	struct pp__wait wait;            /* unordered: those that have ended */
};

/* map_batch.c: from bytes to a submitted task. */
struct pp__batch *pp__batch_new(pp_map *map, uint64_t first);   /* not in the list; NULL: no memory */
int  pp__batch_add(struct pp__batch *batch, const void *data, size_t size);
/* block: waits for its turn where max_pending is reached. 0: it is submitted, or will never be and has a verdict;
 * negative errno: not this time. data is that of its only item, which then needs no pack. */
int  pp__batch_submit(pp_map *map, struct pp__batch *batch, bool block, const void *data, size_t size);
/* It will never be submitted, for this reason. */
void pp__batch_give_up(pp_map *map, struct pp__batch *batch, int error);
void pp__batch_free(pp_map *map, struct pp__batch *batch);      /* of no list */

/* map_take.c: takes as many inputs as may be ahead of item asked. 0, or why it stopped before that. */
int  pp__map_refill(pp_map *map, uint64_t asked);

/* map_open.c: from a task that has ended to what became of its items. */
uint64_t pp__batch_done(struct pp__batch *batch);
/* 0; -ENOMEM. Its rest, if there is one, stands behind it in the list then. */
int  pp__batch_open(pp_map *map, struct pp__batch *batch);
/* What became of the next of its items; valid until the next call, or the end of the batch. NULL: no memory; it is
 * still the next. */
const pp_outcome *pp__batch_give(pp_map *map, struct pp__batch *batch);

#endif
