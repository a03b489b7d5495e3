/* SPDX-License-Identifier: MIT */
/*
 * Several items of a map in one task. Its argument is a head and the items, one behind the other; what became of each
 * item is written as it ends, into room that the task claims before the first: so the results of the items that have
 * ended outlive a crash in a later one.
 *
 *   argument   head | { size, padding, bytes, padding to 16 } for each item        written by the parent alone
 *   room       one entry per item | results, each from a multiple of 16 on          written by the worker that runs it
 *   cell       started: { tag : 32, closed : 1, how many items were started : 31 }  in the place of an inline result
 *              overflow: a claim like the cell's own, for a result that did not fit into the room; the chunk ends with it
 *
 * No item is started twice, and none is lost: a worker starts each by a compare-and-swap on the word in the cell, and
 * who wants to run the rest elsewhere closes that word first. An item that was started, and whose entry does not
 * carry its check, is the one that died with its worker.
 */
#ifndef PP_LIB_CHUNK_H
#define PP_LIB_CHUNK_H

#include <stdbool.h>
#include "layout.h"

#define PP__CHUNK_ITEMS_MAX (1u << 20)
#define PP__CHUNK_OVERFLOW  UINT32_MAX   /* as place: the result is in the overflow */

struct pp__chunk_head {
	pp_fn    *fn;
	uint64_t  room;                  /* to claim, in bytes; at least for the entries */
	uint32_t  count;
	uint32_t  reserved[3];
};

struct pp__chunk_item {
	uint64_t      size;
	uint64_t      reserved;
	unsigned char bytes[];
};

struct pp__chunk_entry {
	uint32_t         place;          /* offset of the result in the room */
	uint32_t         sum;            /* of the bytes of the result, with PP_CHECKSUM; else 0 */
	uint64_t         size;
	uint64_t         end_ns;         /* the start of the next one; the first starts with the task */
	int32_t          code;           /* as in a cell */
	_Atomic uint32_t check;          /* stored last */
};

static_assert(sizeof(struct pp__chunk_head) % 16 == 0 && sizeof(struct pp__chunk_item) == 16,
              "items are aligned like arguments");
static_assert(sizeof(struct pp__chunk_entry) == 32, "two entries are a line");

/* The bytes that an item takes in the argument; 0: too large. */
static inline uint64_t pp__chunk_item_room(uint64_t size)
{
	return size > UINT64_MAX / 2 ? 0 : sizeof(struct pp__chunk_item) + ((size + 15) & ~UINT64_C(15));
}

static inline const struct pp__chunk_item *pp__chunk_item_next(const struct pp__chunk_item *item)
{
	return (const void *)((const char *)item + pp__chunk_item_room(item->size));
}

/* Before the slot is READY: nothing is started. */
void pp__chunk_reset(const struct pp__shared *shared, uint32_t slot, uint32_t generation);
/* By the worker: item i is started by it, here and now. false: closed. */
bool pp__chunk_start(const struct pp__shared *shared, uint32_t slot, uint32_t generation, uint32_t i);
/* By the parent: no item is started from here on. Returns how many were; count, if the word was overwritten: then
 * none of them can be run again. */
uint32_t pp__chunk_close(const struct pp__shared *shared, uint32_t slot, uint32_t generation, uint32_t count);
/* How many were started so far. */
uint32_t pp__chunk_started(const struct pp__shared *shared, uint32_t slot, uint32_t generation, uint32_t count);

/* Over all of the entry but the check itself. */
uint32_t pp__chunk_check(const struct pp__header *header, uint32_t slot, uint32_t generation, uint32_t i,
                         const struct pp__chunk_entry *entry);

/* The task: see worker/chunk.c. */
int pp__chunk_run(pp_task *task, const void *data, size_t size);

#endif
