/* SPDX-License-Identifier: MIT */
/*
 * Where a vandal writes and what. Random bytes alone would nearly always be caught by the check in a state word: so half
 * of what is written is what a broken program would write: a valid word of another state, owner or generation, a small
 * number, a number that is off by one bit. Slots and units are those that are in use, for the others would not be looked at.
 */
#include "vandal.h"
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "slot.h"

#define SLOTS     24u            /* the tasks of a run, and some */
#define UNITS     16u
#define MAX_ROUNDS 40u

const char *const vandal_kind_names[VANDAL_KINDS] = { "state words", "result descriptors", "ring head and stacks",
	"semaphores", "worker lines", "inline results", "own results", "unit words", "pages" };

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static uint32_t below(uint64_t *state, uint32_t n) { return (uint32_t)(next_random(state) >> 32) % n; }

/* A valid word of this slot, as some other process could have written it. */
static uint64_t plausible_word(const struct vandal *v, uint32_t slot, uint64_t *random)
{
	uint32_t generation = below(random, 4) ? pp__word_generation(atomic_load(&v->shared.cells[slot].word))
	                                       : below(random, 3);

	return pp__word_make(v->shared.header, slot, generation, (enum pp__state)below(random, PP__STATES))
	       | pp__owner(below(random, 5), below(random, 4)) | (next_random(random) & PP__WANTS);
}

static uint64_t some_number(uint64_t old, uint64_t *random)
{
	switch (below(random, 5)) {
	case 0: return next_random(random);
	case 1: return below(random, 32);
	case 2: return old ^ UINT64_C(1) << below(random, 64);
	case 3: return below(random, 2) ? 0 : UINT64_MAX;
	default: return old + below(random, 3) - 1;
	}
}

/* A word at random between two addresses. */
static void *word_between(void *from, size_t size, uint64_t *random)
{
	return (char *)from + below(random, (uint32_t)(size / sizeof(uint64_t))) * sizeof(uint64_t);
}

static void *target(const struct vandal *v, enum vandal_kind kind, uint64_t *random)
{
	const struct pp__shared *s = &v->shared;
	uint32_t slot = below(random, SLOTS), entry = below(random, s->header->entries);
	struct pp__cell *cell = s->cells + slot;

	switch (kind) {
	case VANDAL_DESCRIPTOR:
		if (below(random, 3) == 0)
			return word_between((void *)&cell->claim, sizeof *cell - offsetof(struct pp__cell, claim), random);
		return word_between((void *)&cell->link, offsetof(struct pp__cell, result) - offsetof(struct pp__cell, link), random);
	case VANDAL_CONTROL:
		return word_between(s->control, sizeof *s->control, random);
	case VANDAL_SEMAPHORE:
		return below(random, 4) == 0 ? &s->control->bell : below(random, 2) ? &cell->wake : &s->workers[entry].wake;
	case VANDAL_LINE:
		return word_between(s->workers + entry, sizeof *s->workers, random);
	case VANDAL_INLINE:
		return word_between(cell->result, sizeof cell->result, random);
	case VANDAL_RESULT:
		if (below(random, 2))
			return word_between(s->extensions + (size_t)slot * PP__EXTENSION, PP__EXTENSION, random);
		return word_between(s->base + s->header->small_units, (size_t)UNITS * PP__SMALL_UNIT, random);
	case VANDAL_UNIT:
		return (void *)(uintptr_t)(s->units + below(random, UNITS));
	default:
		return (void *)(uintptr_t)&cell->word;
	}
}

/* A page, of the part that small pools use. */
static void scribble_page(const struct vandal *v, uint64_t *random)
{
	const struct pp__shared *s = &v->shared;
	char *const areas[] = { (char *)s->control, (char *)s->workers, (char *)s->cells, (char *)s->units,
	                        (char *)s->extensions, s->base + s->header->small_units };
	char *page = areas[below(random, sizeof areas / sizeof *areas)] + (size_t)below(random, 2) * PP__PAGE;
	uint64_t value = below(random, 2) ? 0 : next_random(random);

	page = (char *)((uintptr_t)page & ~(uintptr_t)(PP__PAGE - 1));
	if (page < (char *)s->control)
		page += PP__PAGE;
	for (size_t i = 0; i < PP__PAGE; i += sizeof value) {
		memcpy(page + i, &value, sizeof value);
		value = value ? next_random(random) : 0;
	}
}

static void scribble(const struct vandal *v, uint64_t *random)
{
	enum vandal_kind kind = (enum vandal_kind)below(random, VANDAL_KINDS);
	uint64_t old, value;
	void *at;

	atomic_fetch_add(&v->hits->writes[kind], 1);
	if (kind == VANDAL_PAGE) {
		scribble_page(v, random);
		return;
	}
	at = target(v, kind, random);
	memcpy(&old, at, sizeof old);
	value = some_number(old, random);
	if (kind == VANDAL_STATE && below(random, 2))
		value = plausible_word(v, (uint32_t)((struct pp__cell *)at - v->shared.cells), random);
	memcpy(at, &value, (size_t)1 << below(random, 4));
}

int task_vandal(pp_task *task, const void *data, size_t size)
{
	struct vandal v;
	uint64_t random;

	(void)size;
	memcpy(&v, data, sizeof v);
	random = (v.random + atomic_fetch_add(v.starts, 1) * UINT64_C(0x9e3779b97f4a7c15)) | 1;
	/* Few of them leave a pool in which most goes well, many find what two do together. */
	for (uint32_t rounds = 1 + below(&random, below(&random, 3) ? 3 : MAX_ROUNDS); rounds; rounds--) {
		scribble(&v, &random);
		if (below(&random, 8) == 0)
			usleep(below(&random, 500));
	}
	switch (below(&random, 8)) {
	case 0: raise(SIGKILL); break;
	case 1: abort();
	case 2: _exit(3);
	case 3:
		for (;;)
			pause();
	default: break;
	}
	return pp_return(task, "done", 5);
}
