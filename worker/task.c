/* SPDX-License-Identifier: MIT */
/*
 * The task's side of the API: results and errors go straight to where the parent reads them, into memory that only this
 * worker writes until it publishes. Up to PP__RESULT_INLINE bytes stand in the cell, up to PP__EXTENSION in the slot's
 * extension, larger ones in units.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "policy.h"
#include "segment.h"
#include "slot.h"
#include "sum.h"
#include "sysdep.h"
#include "worker.h"

#define KNOWN_PAGES 1024u        /* extension pages that this worker has found to have memory; a cache, may forget */

void pp__task_begin(struct pp__self *self, uint32_t slot, uint64_t word)
{
	const struct pp__desc *desc = self->shared->descs + slot;
	const struct pp__policy *policy = slot != PP__NO_SLOT ? pp__policy_of(self->shared, slot) : NULL;
	unsigned attempt = policy ? policy->attempts + 1 : slot != PP__NO_SLOT;
	const char *name = "";

	if (slot != PP__NO_SLOT && desc->name_size)
		name = (const char *)desc->bytes + PP__ARG_INLINE - desc->name_size;
	self->task = (struct pp_task){ .self = self, .slot = slot, .generation = pp__word_generation(word),
	                               .attempt = attempt, .name = name };
}

/* A result that never came leaves no room claimed that the parent would not find: it frees what the cell notes. */
static void drop_claim(struct pp_task *task)
{
	struct pp__cell *cell = task->self->shared->cells + task->slot;
	uint64_t claim = atomic_load_explicit(&cell->claim, memory_order_relaxed);

	if (task->chunk) {
		pp__chunk_drop(task);
	} else if (claim) {
		pp__task_open_units(task);
		pp__guard_end_result(&task->self->guard);
		pp__units_release(task->self->shared, task->slot, task->generation, claim);
		atomic_store(&cell->claim, 0);
	}
}

static int extension_ready(struct pp_task *task, void *place)
{
	static uintptr_t known[KNOWN_PAGES];
	uintptr_t page = (uintptr_t)place / PP__PAGE;
	int rc;

	if (known[page % KNOWN_PAGES] == page && !task->self->inlined)   /* there several segments can have been at a place */
		return 0;
	rc = pp__memory_commit_at(place, PP__EXTENSION);
	if (rc == 0 || rc == -EINVAL)
		known[page % KNOWN_PAGES] = page;
	return rc == -EINVAL ? 0 : rc;
}

int pp__task_stage(struct pp_task *task, uint64_t size, unsigned char **place)
{
	*place = pp__guard_stage(&task->self->guard, size);
	task->staged = *place != NULL;
	return *place ? 0 : -ENOMEM;
}

/* Room for a result of size bytes; the one before is given up. What shares its pages with others' is staged. */
static int make_room(struct pp_task *task, uint64_t size, unsigned char **place)
{
	const struct pp__shared *shared = task->self->shared;
	int64_t offset;

	drop_claim(task);
	task->place = NULL;
	task->summed = task->staged = false;
	if (task->chunk)
		return pp__chunk_make_room(task, size, place);
	if (size <= PP__EXTENSION && task->self->guard.on)
		return pp__task_stage(task, size, place);
	if (size <= PP__RESULT_INLINE) {
		*place = shared->cells[task->slot].result;
		return 0;
	}
	if (size <= PP__EXTENSION) {
		*place = shared->extensions + (uint64_t)task->slot * PP__EXTENSION;
		return extension_ready(task, *place);
	}
	pp__task_open_units(task);
	offset = pp__units_claim(shared, &task->self->cursor, task->slot, task->generation, size);
	if (offset < 0)
		return (int)offset;
	*place = (unsigned char *)shared->base + offset;
	pp__guard_open_at(&task->self->guard, *place, size);
	return 0;
}

/* Of bytes that will not change any more. */
static void note_sum(struct pp_task *task, const void *bytes, uint64_t size)
{
	if (!task->self->sums)
		return;
	task->sum = pp__sum(bytes, size);
	task->summed = true;
}

int pp_return(pp_task *task, const void *data, size_t size)
{
	unsigned char *place;
	int rc;

	if (!task)
		return -EINVAL;
	if (!data && size)
		return task->error = -EINVAL;
	if (task->slot == PP__NO_SLOT || task->raised)
		return 0;
	rc = make_room(task, size, &place);
	if (rc == 0 && size)
		memcpy(place, data, size);
	pp__guard_close(&task->self->guard);
	if (rc < 0) {
		task->size = 0;
		return task->error = rc;
	}
	note_sum(task, data, size);      /* of the private bytes: what happens to the others from here on is found */
	task->size = size;
	return 0;
}

void *pp_return_alloc(pp_task *task, size_t size)
{
	unsigned char *place;
	int rc;

	if (!task || task->slot == PP__NO_SLOT || task->raised)
		return NULL;
	rc = make_room(task, size, &place);
	if (rc == 0 && !task->staged)
		pp__guard_lend_result(&task->self->guard, place, size);
	pp__guard_close(&task->self->guard);
	task->size = 0;
	if (rc < 0) {
		task->error = rc;
		return NULL;
	}
	task->size = size;
	return task->place = place;
}

/* A result that has become small moves to where the parent looks for one of its size. The room it came from is given up
 * by that, so the bytes are taken out first. */
static int move_down(struct pp_task *task, uint64_t size)
{
	unsigned char bytes[PP__EXTENSION], *place;
	int rc;

	memcpy(bytes, task->place, size);
	rc = make_room(task, size, &place);
	if (rc == 0)
		memcpy(place, bytes, size);
	task->place = rc == 0 ? place : NULL;
	return rc;
}

static void give_back_rest(struct pp_task *task, uint64_t size)
{
	pp__task_open_units(task);
	pp__units_shrink(task->self->shared, task->slot, task->generation, size);
	pp__guard_lend_result(&task->self->guard, task->place, size);
}

int pp_return_commit(pp_task *task, size_t size)
{
	uint64_t room;
	int rc = 0;

	if (!task)
		return -EINVAL;
	if (task->slot == PP__NO_SLOT || task->raised)
		return 0;
	if (!task->place || size > task->size)
		return task->error = -EINVAL;
	room = task->chunk ? 0 : task->size;     /* of an item of a chunk nothing is moved, and nothing given back */
	if ((room > PP__EXTENSION && size <= PP__EXTENSION) || (room > PP__RESULT_INLINE && size <= PP__RESULT_INLINE))
		rc = move_down(task, size);
	else if (room > PP__EXTENSION && size > PP__EXTENSION)
		give_back_rest(task, size);
	pp__guard_close(&task->self->guard);
	task->size = rc < 0 ? 0 : size;
	return rc < 0 ? task->error = rc : 0;
}

char *pp__task_mutable(const struct pp_task *task, uint64_t *size)
{
	const struct pp__shared *shared = task->self->shared;
	const struct pp__desc *desc = shared->descs + task->slot;

	if (task->slot == PP__NO_SLOT || desc->offset < shared->header->mutables)
		return NULL;
	*size = desc->size;
	return shared->base + desc->offset;
}

void *pp_task_argument(pp_task *task, size_t *size)
{
	uint64_t bytes = 0;
	void *argument = task ? pp__task_mutable(task, &bytes) : NULL;

	if (size)
		*size = bytes;
	return argument;
}

int pp_return_argument(pp_task *task, size_t offset, size_t size)
{
	uint64_t bytes = 0;
	char *argument;

	if (!task)
		return -EINVAL;
	if (task->slot == PP__NO_SLOT || task->raised)
		return 0;
	argument = pp__task_mutable(task, &bytes);
	if (!argument || offset > bytes || size > bytes - offset)
		return task->error = -EINVAL;
	if (size <= PP__EXTENSION)
		return pp_return(task, argument + offset, size);
	pp__task_open_cell(task);
	drop_claim(task);
	task->place = NULL;
	task->summed = task->staged = false;
	task->size = size;
	atomic_store(&task->self->shared->cells[task->slot].claim, PP__CLAIM_ARGUMENT | offset);
	pp__guard_close(&task->self->guard);
	return 0;
}

/* In the initializer the message is kept for the reason why the pool is broken. */
static void keep_text(struct pp_task *task, const char *message)
{
	pp__guard_open(&task->self->guard, PP__OPEN_CORE);
	snprintf(task->self->line->text, PP__TEXT, "%.*s", (int)PP__TEXT - 1, message);
}

/* Stored as: length of the message : 4 bytes, message and NUL, padding to 8, detail. */
static void store_raise(struct pp_task *task, const char *message, const void *data, size_t size)
{
	uint32_t length = (uint32_t)strlen(message);
	uint64_t detail = (sizeof length + length + 1 + 7) & ~UINT64_C(7);
	unsigned char *place;

	task->size = 0;
	if (task->slot == PP__NO_SLOT) {
		keep_text(task, message);
		return;
	}
	if (size > SIZE_MAX - detail || make_room(task, detail + size, &place) < 0)
		return;                  /* no room: the code alone remains */
	memcpy(place, &length, sizeof length);
	memcpy(place + sizeof length, message, length + 1);
	if (size)
		memcpy(place + detail, data, size);
	task->size = detail + size;
	note_sum(task, place, task->size);
}

static int raise_with(struct pp_task *task, int code, const void *data, size_t size, const char *format, va_list list)
{
	char message[PP__MESSAGE_MAX + 1] = "";

	if (code == 0)
		code = PP_ERAISED;
	if (!task)
		return code;
	if (format)
		vsnprintf(message, sizeof message, format, list);
	task->raised = true;
	task->raise_code = code;
	store_raise(task, message, data, data ? size : 0);
	pp__guard_close(&task->self->guard);
	return code;
}

int pp_raisev(pp_task *task, int code, const char *format, va_list arguments)
{
	return raise_with(task, code, NULL, 0, format, arguments);
}

int pp_raise(pp_task *task, int code, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	code = raise_with(task, code, NULL, 0, format, list);
	va_end(list);
	return code;
}

int pp_raise_data(pp_task *task, int code, const void *data, size_t size, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	code = raise_with(task, code, data, size, format, list);
	va_end(list);
	return code;
}

/* The function's int decides; but a result that could not be stored is never taken for one that was empty. */
int pp__task_code(struct pp_task *task, int rc)
{
	if (!(rc | task->error | task->raised))
		return 0;
	if (task->error)
		rc = task->error;
	else if (rc == 0 && task->raised)
		rc = task->raise_code;
	if (rc != 0 && !task->raised) {
		drop_claim(task);
		task->size = 0;
	}
	return rc;
}

/* It was raised or returned in private memory. What cannot be stored is told of as by a pp_return that failed. */
void pp__task_land(struct pp_task *task)
{
	const struct pp__shared *shared = task->self->shared;
	unsigned char *place = shared->cells[task->slot].result;
	int rc = 0;

	if (!task->staged || !task->size)
		return;
	if (task->size > PP__RESULT_INLINE) {
		place = shared->extensions + (uint64_t)task->slot * PP__EXTENSION;
		pp__guard_open_at(&task->self->guard, place, PP__EXTENSION);
		rc = extension_ready(task, place);
	}
	if (rc == 0)
		memcpy(place, task->self->guard.stage, task->size);
	else
		task->size = 0;
	if (rc < 0 && !task->raised)
		task->error = rc;
}

/* What was written in place is taken as it stands now, at the end. */
uint32_t pp__task_sum(struct pp_task *task)
{
	const struct pp__shared *shared = task->self->shared;
	const void *bytes = task->place;
	uint64_t claim;

	if (task->summed || !task->size)
		return task->size ? task->sum : 0;
	if (!bytes) {
		claim = atomic_load_explicit(&shared->cells[task->slot].claim, memory_order_relaxed);
		bytes = shared->base + shared->descs[task->slot].offset + pp__claim_offset(claim);
	}
	return pp__sum(bytes, task->size);
}

int pp__task_end(struct pp_task *task, int rc)
{
	struct pp__cell *cell = task->self->shared->cells + task->slot;
	uint64_t claim = 0;

	rc = pp__task_code(task, rc);
	if (task->size > PP__EXTENSION)          /* else the cell's second line is not touched */
		claim = atomic_load_explicit(&cell->claim, memory_order_relaxed);
	cell->code = rc;
	cell->size = task->size;
	cell->check = pp__result_check(task->self->shared->header, task->slot, task->generation, task->size, rc, claim);
	if (task->self->sums)
		cell->check ^= pp__task_sum(task);
	return rc;
}
