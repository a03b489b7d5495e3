/* SPDX-License-Identifier: MIT */
/*
 * One future: any cell, extension, progress and line of its owner. An input says which of these it brings, and which of
 * the checks in them are made right, so that what comes behind a check is reached without guessing it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include "backtrace.h"
#include "fuzz.h"
#include "report.h"
#include "sum.h"
#include "units.h"

enum { HAS_CELL = 1, HAS_LINE = 2, HAS_EXTENSION = 4, HAS_BYTES = 8, HAS_PROGRESS = 16, HAS_UNITS = 32, IS_LATE = 64 };
enum { RIGHT_WORD = 1, RIGHT_OWNER = 2, IS_BURIED = 4, RIGHT_TAGS = 8, RIGHT_RUN = 16, RIGHT_CHECK = 32,
       RIGHT_SIGNAL = 64, RIGHT_PROGRESS = 128 };

/* ------------------------------------------------------------------ reading, and what must be true of it */

void ground_check_outcome(const struct ground *g, const pp_outcome *o)
{
	char text[64];

	MUST(o->kind >= PP_RETURNED && o->kind <= PP_BROKEN);
	MUST(strlen(o->message) <= PP__MESSAGE_MAX && strlen(o->task_name) <= PP__NAME_MAX);
	MUST(o->data && (o->kind == PP_RETURNED || o->kind == PP_RAISED || !o->size));
	MUST(o->worker >= -1 && o->worker < (int)g->ex->most_workers && o->pid >= 0);
	MUST(o->register_count <= PP__REGISTERS && (o->registers || !o->register_count));
	if (o->registers)
		ground_touch(o->registers, o->register_count * sizeof *o->registers);
	ground_touch(o->data, o->size);
	MUST(pp_outcome_describe(o, text, sizeof text) >= 0 && memchr(text, 0, sizeof text));
	for (unsigned n = 0; o; o = o->earlier)
		MUST(n++ <= 2);
}

static void check_postmortem(const pp_postmortem *p)
{
	MUST(p->frame_count <= PP__FRAMES_MAX && p->frames_note);
	MUST(p->output && p->output_size <= PP__OUTPUT_MAX && p->output[p->output_size] == 0);
	for (size_t i = 0; i < p->frame_count; i++)
		ground_touch(p->frames[i].function ? p->frames[i].function : "", 1);
}

/* As if nobody had looked yet. */
static struct pp__box read_anew(pp_future *future)
{
	struct pp__box before = { .owned = NULL };

	if (pp__is_boxed(future))
		before = *pp__box_of(future);
	atomic_store(&future->boxed, PP__UNBOXED);
	MUST(pp__future_outcome(future));
	return before;
}

/* The same bytes read again say the same. A box that there is may be of before they were forged. */
static void look_again(pp_future *future)
{
	struct pp__box first = read_anew(future), second;
	const pp_outcome *o, *p = &second.outcome;

	pp__box_clear(&first);
	second = read_anew(future);
	o = &pp__box_of(future)->outcome;
	MUST(o->kind == p->kind && o->size == p->size && o->code == p->code && o->signal == p->signal);
	MUST(o->worker == p->worker && o->attempt == p->attempt && strcmp(o->message, p->message) == 0);
	pp__box_clear(&second);
}

static void read_block(const struct ground *g, pp_future *future, const pp_outcome *o)
{
	pp_block *block = NULL;

	if (pp_future_block(future, &block) < 0)
		return;
	MUST(o->kind == PP_RETURNED && pp_block_size(block) == o->size);
	if (o->size > PP__RESULT_INLINE)
		MUST(ground_is_own(g, future, NULL, pp_block_data(block), o->size));
	ground_touch(pp_block_data(block), o->size);
	pp_block_free(block);
}

static void read_progress(pp_future *future)
{
	uint64_t done = 0, total = 0;
	char text[PP__PROGRESS_TEXT];
	int rc = pp_future_progress(future, &done, &total, text, sizeof text);

	MUST((rc == 0 || rc == 1) && memchr(text, 0, sizeof text));
}

void ground_read(struct ground *g, pp_future *future)
{
	static FILE *nowhere;
	const pp_postmortem *p = NULL;
	const pp_outcome *o = NULL;
	int rc;

	if (!nowhere)
		nowhere = fopen("/dev/null", "w");
	read_progress(future);
	pp_future_running(future);
	MUST(pp_future_state(future));
	rc = pp_future_result(future, 0, &o);
	/* What has not ended may end by the next look: each that comes a slice after the last one tends. */
	MUST(rc == (o ? 0 : -ETIMEDOUT) && (pp_future_done(future) || !o));
	if (!o)
		return;
	ground_check_outcome(g, o);
	MUST(ground_is_own(g, future, pp__box_of(future), o->data, o->size));
	look_again(future);
	MUST(pp_future_exception(future, 0, &o) == 0 && pp_future_result(future, 0, &o) == 0);
	read_block(g, future, o);
	rc = pp_future_postmortem(future, 0, &p);
	MUST(rc == 0 || rc == -ENODATA || rc == -ETIMEDOUT);
	if (rc == 0)
		check_postmortem(p);
	MUST(pp_outcome_print(o, nowhere) == 0);
}

/* ------------------------------------------------------------------ forging */

struct forgery {
	struct ground *ground;
	const struct pp__shared *shared;
	pp_future *future;
	struct pp__cell *cell;
	unsigned char *extension;
	struct pp__worker *line;
	unsigned fixes;
};

/* The word is the slot's, and its owner one that there is. */
static void fix_word(struct forgery *f)
{
	uint64_t word = atomic_load(&f->cell->word), of_word = PP__WANTS | PP__OWNER_BITS | 31;
	uint32_t entry = pp__word_worker(word) % GROUND_ENTRIES;

	if (f->fixes & RIGHT_WORD)
		word = (word & of_word) | (pp__word_of(f->future, PP__FREE) & ~of_word);
	if (f->fixes & RIGHT_OWNER)
		word = (word & ~PP__OWNER_BITS) | pp__owner(entry, pp__word_incarnation(word));
	atomic_store(&f->cell->word, word);
	f->line = f->shared->workers + entry;
	if (f->fixes & RIGHT_OWNER)
		atomic_store(&f->line->incarnation, pp__word_incarnation(word) + !!(f->fixes & IS_BURIED));
}

static void fix_tags(struct forgery *f)
{
	uint64_t tag = pp__word_attempt(atomic_load(&f->cell->word));

	if (f->fixes & RIGHT_SIGNAL) {
		f->cell->death_signal &= 63;
		f->cell->death_code &= 15;
	}
	if (!(f->fixes & RIGHT_TAGS))
		return;
	atomic_store(&f->line->crash.tag, tag);
	memcpy(f->extension + offsetof(struct pp__death, tag), &tag, sizeof tag);
	memcpy(f->extension + offsetof(struct pp__death, crash.tag), &tag, sizeof tag);
}

/* Where the bytes of the result would be; NULL: nowhere. */
static unsigned char *bytes_of(const struct forgery *f, uint64_t size)
{
	const struct pp__desc *desc = f->shared->descs + f->future->slot;
	uint64_t claim = atomic_load(&f->cell->claim), offset = pp__claim_offset(claim);

	if (size <= PP__RESULT_INLINE)
		return f->cell->result;
	if (size <= PP__EXTENSION)
		return f->extension;
	if (pp__claim_is_argument(claim))
		return pp__extra_of(f->future)->block && offset <= desc->size && size <= desc->size - offset
		       ? (unsigned char *)f->shared->base + desc->offset + offset : NULL;
	return pp__units_are_owned(f->shared, f->future->slot, f->future->generation, claim, size)
	       ? (unsigned char *)f->shared->base + pp__units_offset(f->shared->header, claim) : NULL;
}

static void fix_check(struct forgery *f)
{
	uint64_t size = f->cell->size;
	const unsigned char *bytes = bytes_of(f, size);
	uint32_t sum = f->ground->ex->flags & PP_CHECKSUM && bytes ? pp__sum(bytes, size) : 0;

	if (f->fixes & RIGHT_CHECK)
		f->cell->check = sum ^ pp__result_check(f->shared->header, f->future->slot, f->future->generation, size,
		                                        f->cell->code, atomic_load(&f->cell->claim));
}

static void forge_progress(struct forgery *f, struct feed *feed)
{
	struct pp__progress *record = &pp__tally_of(f->shared, (uint32_t)(f->line - f->shared->workers))->progress;

	feed_bytes(feed, record, sizeof *record);
	if (f->fixes & RIGHT_PROGRESS) {
		atomic_store(&record->of, pp__progress_of(f->future->slot, f->future->generation));
		atomic_store(&record->sequence, atomic_load(&record->sequence) & ~1u);
	}
}

static void forge_units(struct forgery *f, struct feed *feed)
{
	for (unsigned n = feed_u8(feed) % 4; n; n--) {
		uint32_t i = feed_u8(feed);
		uint64_t word = feed_u64(feed);
		i = i < 128 ? i % GROUND_SMALL : f->shared->header->small_count + i % GROUND_BIG;
		atomic_store(f->shared->units + i, word);
	}
	atomic_store(&f->shared->control->units_used[0], feed_u32(feed));
	atomic_store(&f->shared->control->units_used[1], feed_u32(feed));
}

/* A part of the cell stays what it was where the input does not bring it: what ended as it should is read as well. */
static void forge(struct forgery *f, struct feed *feed, unsigned has)
{
	unsigned char *bytes;
	uint8_t few[64];

	if (has & HAS_CELL)
		feed_bytes(feed, f->cell, sizeof *f->cell);
	if (has & HAS_EXTENSION)
		feed_bytes(feed, f->extension, sizeof(struct pp__death));
	fix_word(f);
	if (has & HAS_LINE) {
		feed_bytes(feed, &f->line->crash, sizeof f->line->crash);
		atomic_store(&f->line->pid, (int32_t)feed_u32(feed));
	}
	fix_tags(f);
	if (f->fixes & RIGHT_RUN && f->cell->claim >> 62 != 1)
		atomic_store(&f->cell->claim, ground_name_units(f->ground, f->future, atomic_load(&f->cell->claim)));
	if (has & HAS_UNITS)
		forge_units(f, feed);
	if (has & HAS_PROGRESS)
		forge_progress(f, feed);
	bytes = bytes_of(f, f->cell->size);
	if (has & HAS_BYTES && bytes) {
		feed_bytes(feed, few, sizeof few);
		memcpy(bytes, few, f->cell->size < sizeof few ? f->cell->size : sizeof few);
	}
	fix_check(f);
}

void fuzz_outcome(struct feed *feed)
{
	static const uint32_t sizes[] = { 0, 8, 100, 3000, 70000, 17, 256, 257 };
	unsigned task = feed_u8(feed), has = feed_u8(feed), kind = task >> 1 & 7;
	struct ground *g = ground_for(task);
	struct spec spec = { sizes[task >> 4 & 7], task & 128 ? -7 : 0 };
	struct forgery f = { g, &g->ex->segment.shared, ground_ended(g, &spec, kind), NULL, NULL, NULL, feed_u8(feed) };

	f.cell = pp__cell_of(f.future);
	f.extension = f.shared->extensions + (uint64_t)f.future->slot * PP__EXTENSION;
	g->ex->inlined = false;
	if (has & IS_LATE)
		pp_future_result(f.future, 0, &(const pp_outcome *){ NULL });
	forge(&f, feed, has);
	if (!(has & IS_LATE)) {
		ground_read(g, f.future);
	} else {
		pp_future_postmortem(f.future, 0, &(const pp_postmortem *){ NULL });
		pp_future_progress(f.future, NULL, NULL, NULL, 0);
		pp_future_cancel(f.future);
	}
	pp_future_free(f.future);
	pthread_mutex_lock(&g->ex->submit_lock);
	pp__slots_harvest(g->ex);        /* while its owner may still look as if it were dying */
	pthread_mutex_unlock(&g->ex->submit_lock);
	g->ex->inlined = true;
}

/* The unwinder is slow: only where the input asks for it. A program counter may be made one of ours, and the stack be
 * where the registers say. */
void fuzz_frames(struct feed *feed)
{
#if PP__REGISTERS
	unsigned how = feed_u8(feed);
	static unsigned char bytes[4096];
	struct pp__stack_copy stack = { bytes, feed_u64(feed), feed_u16(feed) % (sizeof bytes + 1) };
	uint64_t registers[PP__REGISTERS];
	pp_frame frames[PP__FRAMES_MAX];
	const char *note = NULL;
	size_t n;

	feed_bytes(feed, registers, sizeof registers);
	feed_bytes(feed, bytes, sizeof bytes);
	if (how & 1)
		registers[PP__REGISTER_PC] = (uintptr_t)fuzz_frames + registers[PP__REGISTER_PC] % 256;
	if (how & 2)
		registers[PP__REGISTER_SP] = stack.base + registers[PP__REGISTER_SP] % 64;
	pp__backtrace_forbid((how & 0xf0) != 0xa0);
	n = pp__backtrace(registers, &stack, frames, &note);
	pp__backtrace_forbid(true);
	MUST(n <= PP__FRAMES_MAX && note);
	for (size_t i = 0; i < n; i++)
		ground_touch(frames[i].module ? frames[i].module : "", 1);
	pp__frames_free(frames, n);
#else
	(void)feed;
#endif
}
