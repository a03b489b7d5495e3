/* SPDX-License-Identifier: MIT */
/*
 * The ground on which the targets of fuzz.h stand. Executors are made once; what an input has done to them is undone
 * after it, and that all slots came back is checked there. Memory that no slot or line in use has is out of bounds: it
 * cannot be touched at all, so that a forged index is found by the first look through it.
 */
#include "fuzz.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>
#include "backtrace.h"
#include "sum.h"
#include "units.h"

#define SEGMENT_MAX ((rlim_t)3 << 30)    /* the smallest segment will do: 1 GiB */
#define NONCE UINT64_C(0x70726f63706f6f6c)
#define BLOCK_SIZE 512u

static struct ground grounds[2];

void feed_bytes(struct feed *feed, void *to, size_t n)
{
	size_t some = n < feed->left ? n : feed->left;

	memset(to, 0, n);
	if (some)
		memcpy(to, feed->at, some);
	feed->at += some;
	feed->left -= some;
}

uint8_t feed_u8(struct feed *feed) { uint8_t x; feed_bytes(feed, &x, sizeof x); return x; }
uint16_t feed_u16(struct feed *feed) { uint16_t x; feed_bytes(feed, &x, sizeof x); return x; }
uint32_t feed_u32(struct feed *feed) { uint32_t x; feed_bytes(feed, &x, sizeof x); return x; }
uint64_t feed_u64(struct feed *feed) { uint64_t x; feed_bytes(feed, &x, sizeof x); return x; }

void fuzz_fail(const char *what, const char *file, int line)
{
	fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, what);
	abort();
}

struct ground *ground_for(unsigned choice)
{
	grounds[choice & 1].touched = true;
	return &grounds[choice & 1];
}

uint32_t ground_touch(const void *bytes, size_t size)
{
	const volatile unsigned char *at = bytes;
	uint32_t sum = 0;

	for (size_t i = 0; i < size; i++)
		sum = sum * 31 + at[i];
	return sum;
}

/* ------------------------------------------------------------------ tasks */

static int run_spec(pp_task *task, const void *data, size_t size)
{
	static unsigned char bytes[PP__SMALL_MAX + PP__BIG_UNIT];
	struct spec spec;

	memcpy(&spec, data, sizeof spec);
	memset(bytes, 'x', sizeof bytes);
	if (spec.code)
		return pp_raise_data(task, spec.code, bytes, spec.size % 2048, "raised %u", spec.size);
	if (size >= BLOCK_SIZE)
		return pp_return_argument(task, spec.size % 64, 300);
	return pp_return(task, bytes, spec.size < sizeof bytes ? spec.size : sizeof bytes);
}

static void note_slot(struct ground *g, const pp_future *future)
{
	MUST(future->slot < GROUND_SLOTS);
	g->used = future->slot >= g->used ? future->slot + 1 : g->used;
}

static pp_future *submit_block(struct ground *g, const pp_task_options *o, const struct spec *spec)
{
	pp_future *future = NULL;
	pp_block *block;

	MUST(pp_block_create(g->ex, BLOCK_SIZE, PP_BLOCK_MUTABLE, &block) == 0);
	memset(pp_block_data(block), 'b', BLOCK_SIZE);
	memcpy(pp_block_data(block), spec, sizeof *spec);
	MUST(pp_submit_block(g->ex, o, run_spec, block, 0, BLOCK_SIZE, &future) == 0);
	pp_block_free(block);
	return future;
}

pp_future *ground_ended(struct ground *g, const struct spec *spec, unsigned kind)
{
	pp_task_options o = PP_TASK_OPTIONS_INIT;
	unsigned char argument[300] = { 0 };
	pp_future *future = NULL;
	size_t size;

	o.name = kind & ARGUMENT_KINDS ? "named" : NULL;
	kind %= ARGUMENT_KINDS;
	size = kind == ARGUMENT_INLINE ? sizeof *spec : sizeof argument;
	o.retries = kind == ARGUMENT_RETRIES ? 2 : 0;
	memcpy(argument, spec, sizeof *spec);
	if (kind == ARGUMENT_BLOCK)
		future = submit_block(g, &o, spec);
	else
		MUST(pp_submit_with(g->ex, &o, run_spec, argument, size, &future) == 0);
	note_slot(g, future);
	return future;
}

pp_future *ground_open(struct ground *g, unsigned retries, int64_t deadline_ms)
{
	pp_task_options o = PP_TASK_OPTIONS_INIT;
	struct spec spec = { 8, 0 };
	bool inlined = g->ex->inlined;
	pp_future *future = NULL;

	o.retries = retries;
	o.deadline_ms = deadline_ms;
	g->ex->inlined = false;
	MUST(pp_submit_with(g->ex, &o, run_spec, &spec, sizeof spec, &future) == 0);
	g->ex->inlined = inlined;
	note_slot(g, future);
	return future;
}

/* ------------------------------------------------------------------ units */

static uint64_t unit_name(const pp_future *future)
{
	return 1 | (uint64_t)future->slot << 2 | (uint64_t)(future->generation & PP__GENERATION_MASK) << 34;
}

void ground_units_used(struct ground *g)
{
	atomic_store(&g->ex->segment.shared.control->units_used[0], GROUND_SMALL);
	atomic_store(&g->ex->segment.shared.control->units_used[1], GROUND_BIG);
}

uint64_t ground_name_units(struct ground *g, const pp_future *future, uint64_t claim)
{
	const struct pp__shared *shared = &g->ex->segment.shared;
	bool big = claim >> 63;
	uint32_t most = big ? GROUND_BIG : GROUND_SMALL, first = (uint32_t)claim % most;
	uint32_t count = 1 + (uint32_t)(claim >> 32 & 0x7fffffff) % (most - first);

	ground_units_used(g);
	for (uint32_t i = 0; i < count; i++)
		atomic_store(shared->units + (big ? shared->header->small_count : 0) + first + i, unit_name(future));
	return (uint64_t)big << 63 | (uint64_t)count << 32 | first;
}

static bool is_within(const void *bytes, size_t size, const void *area, uint64_t room)
{
	uintptr_t at = (uintptr_t)bytes, from = (uintptr_t)area;

	return at >= from && size <= room && at - from <= room - size;
}

/* Each unit that has one of the bytes must be the slot's. */
static bool are_own_units(const struct ground *g, const pp_future *future, uint64_t offset, size_t size, bool big)
{
	const struct pp__shared *shared = &g->ex->segment.shared;
	const _Atomic uint64_t *words = shared->units + (big ? shared->header->small_count : 0);
	uint64_t area = big ? shared->header->big_units : shared->header->small_units;
	uint64_t unit = big ? PP__BIG_UNIT : PP__SMALL_UNIT, last = (offset - area + size - 1) / unit;

	for (uint64_t i = (offset - area) / unit; i <= last; i++)
		if ((atomic_load(words + i) & ~UINT64_C(2)) != unit_name(future))
			return false;
	return true;
}

bool ground_is_own(const struct ground *g, const pp_future *future, const struct pp__box *box, const void *bytes,
                   size_t size)
{
	const struct pp__shared *shared = &g->ex->segment.shared;
	const struct pp__header *h = shared->header;
	const struct pp__desc *desc = shared->descs + future->slot;
	uint64_t offset = (uint64_t)((uintptr_t)bytes - (uintptr_t)shared->base);

	if (!size || !is_within(bytes, size, shared->base, h->size))
		return true;             /* in private memory: ASan knows */
	if (box && is_within(bytes, size, box->bytes, sizeof box->bytes))
		return true;
	if (is_within(bytes, size, shared->extensions + (uint64_t)future->slot * PP__EXTENSION, PP__EXTENSION))
		return true;
	if (desc->offset && is_within(bytes, size, shared->base + desc->offset, desc->size))
		return true;
	if (offset >= h->big_units && offset < h->mutables)
		return are_own_units(g, future, offset, size, true);
	return offset >= h->small_units && offset < h->big_units && are_own_units(g, future, offset, size, false);
}

/* ------------------------------------------------------------------ making the ground, and making it new */

/* No access from there on, as far as whole pages go. */
static void forbid(const struct pp__shared *shared, uint64_t from, uint64_t to)
{
	from = (from + PP__PAGE - 1) & ~(uint64_t)(PP__PAGE - 1);
	to &= ~(uint64_t)(PP__PAGE - 1);
	if (from < to)
		MUST(mprotect(shared->base + from, to - from, PROT_NONE) == 0);
}

static void forbid_what_is_not_there(const pp_executor *ex)
{
	const struct pp__shared *shared = &ex->segment.shared;
	const struct pp__header *h = shared->header;
	uint64_t slots = atomic_load(&ex->slots);

	forbid(shared, h->descs + slots * sizeof *shared->descs, h->rings);
	forbid(shared, h->workers + GROUND_ENTRIES * sizeof *shared->workers, h->tallies);
	forbid(shared, h->tallies + PP__TALLIES(GROUND_ENTRIES) * sizeof *shared->tallies, h->cells);
	forbid(shared, h->cells + slots * sizeof *shared->cells, h->extensions);
	forbid(shared, h->extensions + slots * PP__EXTENSION, h->usages);
	forbid(shared, h->usages + slots * sizeof *shared->usages, h->unit_words);
	forbid(shared, h->mutables + 16 * BLOCK_SIZE, h->size);
}

static void remember(struct ground *g)
{
	const struct pp__shared *shared = &g->ex->segment.shared;

	memcpy(&g->control, shared->control, sizeof g->control);
	memcpy(g->lines, shared->workers, sizeof g->lines);
	memcpy(g->rings, g->ex->rings, sizeof g->rings);
	g->levels = atomic_load(&shared->header->levels);
	g->wanted = atomic_load(&shared->header->wanted);
}

/* Resized while it looks like any other, so that there are lines of several workers. */
static void make_ground(struct ground *g, uint32_t flags)
{
	pp_options o = PP_OPTIONS_INIT;
	struct spec spec = { 8, 0 };

	o.max_workers = PP_INLINE;
	o.flags = PP_MEMFD_ONLY | flags;
	MUST(pp_executor_create(&g->ex, &o) == 0);
	/* Before there are slots: an input is to mean the same each time. */
	g->ex->segment.shared.header->nonce = NONCE;
	pp_future_free(ground_ended(g, &spec, ARGUMENT_INLINE));
	g->ex->supervisor = pp__identify(getpid());
	g->ex->inlined = false;
	MUST(pp_executor_resize(g->ex, 3) == 0);
	MUST(pp__level_use(g->ex, PP__HIGH) == 0 && pp__level_use(g->ex, PP__LOW) == 0);
	g->ex->inlined = true;
	/* A slab is more than an input needs, and whoever looks at all slots looks long. */
	atomic_store(&g->ex->slots, GROUND_SLOTS);
	atomic_store(&g->ex->segment.shared.header->slots, GROUND_SLOTS);
	forbid_what_is_not_there(g->ex);
	remember(g);
}

/* Those that were used, as the books of the workers say; and those that an input names, whatever these say by now. */
static void forget_units(const struct pp__shared *shared, bool big, uint32_t total, uint32_t named)
{
	uint32_t used = atomic_load(&shared->control->units_used[big]);

	used = used > total ? total : used > named ? used : named;
	memset(shared->units + (big ? shared->header->small_count : 0), 0, used * sizeof *shared->units);
	if (used > named)
		pp__memory_discard(shared, big ? shared->header->big_units : shared->header->small_units,
		                   (uint64_t)used * (big ? PP__BIG_UNIT : PP__SMALL_UNIT));
}

static void forget_shared(struct ground *g)
{
	const struct pp__shared *shared = &g->ex->segment.shared;

	forget_units(shared, false, shared->header->small_count, 8 * GROUND_SMALL);
	forget_units(shared, true, shared->header->big_count, 8 * GROUND_BIG);
	memcpy(shared->control, &g->control, sizeof g->control);
	memcpy(shared->workers, g->lines, sizeof g->lines);
	memset(shared->tallies, 0, PP__TALLIES(GROUND_ENTRIES) * sizeof *shared->tallies);
	for (unsigned i = 0; i < PP__LEVELS * 2; i++) {
		uint64_t tail = g->ex->rings[i / 2].tail, mask = shared->header->ring_mask[i / 2][i % 2];
		if (tail > g->rings[i / 2].tail)
			memset(shared->rings[i / 2][i % 2], 0, (tail < mask ? tail : mask + 1) * sizeof(uint64_t));
	}
	memcpy(g->ex->rings, g->rings, sizeof g->rings);
	atomic_store(&shared->header->levels, g->levels);
	atomic_store(&shared->header->wanted, g->wanted);
}

static void forget_private(pp_executor *ex)
{
	if (atomic_load(&ex->broken))
		pp__box_free(atomic_load(&ex->broken));
	atomic_store(&ex->broken, NULL);
	ex->looked_at = ex->submits = ex->round = 0;
	atomic_store(&ex->looked_ns, 0);
	atomic_store(&ex->offered_ns, 0);
	atomic_store(&ex->results.freed, 0);
	atomic_store(&ex->results.recent, 0);
	atomic_store(&ex->submitted, 0);
	atomic_store(&ex->cancelled, 0);
	atomic_store(&ex->broke, 0);
	atomic_store(&ex->spin.budget_ns, PP__SPIN_MIN_NS);
	ex->logged_deaths = ex->logged_restarts = ex->logged_quarantined = 0;
	atomic_store(&ex->max_workers, 3);
	atomic_store(&ex->segment.shared.header->max_workers, 3);
	memset(ex->round_incarnations, 0, sizeof ex->round_incarnations);
	while (pp_executor_dispatch(ex, 0) > 0)
		;
}

/* The slots in the order in which a fresh executor has them, of their first generation. */
static void renew_slots(struct ground *g)
{
	pp_executor *ex = g->ex;

	MUST(!atomic_load(&ex->returned) && !ex->limbo);
	ex->taken -= pp__free_slots_pushed(ex);
	MUST(ex->taken == 0);
	memset(ex->free_slots, 0, sizeof ex->free_slots);
	for (uint32_t i = 0; i < GROUND_SLOTS; i++) {
		pp_future *future = pp__future_at(ex, i);
		MUST(!future->in_use && !pp__is_boxed(future) && !pp__extra_of(future)->watchers);
		future->generation = 0;
		future->neat = false;
		future->next_free = i + 2;
		memset(pp__cell_of(future), 0, sizeof(struct pp__cell));
		atomic_store(&pp__cell_of(future)->word, future->check);
		memset(ex->segment.shared.extensions + (uint64_t)i * PP__EXTENSION, 0, PP__EXTENSION);
	}
	pp__free_slots_own(ex->free_slots)->list = 1;
}

/* What is still open ends as broken; nobody is there who would hold a slot; then all have to come back. */
static void clean_up(struct ground *g)
{
	pp_executor *ex = g->ex;

	if (!g->touched)
		return;
	memcpy(ex->segment.shared.workers, g->lines, sizeof g->lines);
	pthread_mutex_lock(&pp__lock);
	for (uint32_t i = 0; i < g->used; i++) {
		pp_future *future = pp__future_at(ex, i);
		if (future->in_use && !pp__future_has_ended(future))
			atomic_store(&pp__cell_of(future)->word, pp__word_of(future, PP__BROKEN));
	}
	pp__settle_ended(ex);
	pthread_mutex_unlock(&pp__lock);
	forget_private(ex);
	pthread_mutex_lock(&ex->submit_lock);
	pp__slots_harvest(ex);
	pthread_mutex_unlock(&ex->submit_lock);
	renew_slots(g);
	forget_shared(g);
	g->used = 0;
	g->touched = false;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct rlimit before, limit;
	uint32_t sums = pp__sum_is_known() ? PP_CHECKSUM | PP_COPY_OUT : 0;

	(void)argc;
	(void)argv;
	MUST(getrlimit(RLIMIT_FSIZE, &before) == 0);
	limit = before;
	limit.rlim_cur = SEGMENT_MAX;
	MUST(setrlimit(RLIMIT_FSIZE, &limit) == 0);
	make_ground(&grounds[0], 0);
	make_ground(&grounds[1], sums | PP_ACCOUNTING | PP_SELF_DISPATCH);
	MUST(setrlimit(RLIMIT_FSIZE, &before) == 0);
	pp__backtrace_forbid(true);
	clean_up(ground_for(0));
	clean_up(ground_for(1));
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const targets[])(struct feed *) = {
		fuzz_outcome, fuzz_map, fuzz_stacks, fuzz_pool, fuzz_units, fuzz_burial, fuzz_messages, fuzz_frames
	};
	struct feed feed = { data, size };

	targets[feed_u8(&feed) % (sizeof targets / sizeof *targets)](&feed);
	clean_up(&grounds[0]);
	clean_up(&grounds[1]);
	return 0;
}
