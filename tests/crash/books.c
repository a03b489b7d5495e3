/* SPDX-License-Identifier: MIT */
/* What the shared memory and the private books of a yard say; see books.h. */
#include "books.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include "stepper.h"

#define UNIT_USED UINT64_C(1)    /* of units.c */

static bool process_sleeps(pid_t pid)
{
	char path[64], text[256], *close_paren = NULL;
	FILE *file;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	file = fopen(path, "re");
	if (file && fgets(text, sizeof text, file))
		close_paren = strrchr(text, ')');
	if (file)
		fclose(file);
	return close_paren && close_paren[1] && close_paren[2] == 'S';
}

static bool is_calm_worker(struct pp__shared *shared, uint32_t entry)
{
	struct pp__worker *line = shared->workers + entry;
	bool seated = atomic_load(&line->seat) >= 0;
	bool in_map = atomic_load(&shared->control->sleepers[entry / 64]) >> entry % 64 & 1;

	return atomic_load(&line->phase) == PP__LIVE && !pp__sem_has_token(&line->wake) && seated == in_map
	       && process_sleeps(atomic_load(&line->pid));
}

bool books_are_calm(struct yard *yard)
{
	struct pp__shared *shared = &yard->ex->segment.shared;
	struct pp__control *c = shared->control;
	unsigned seated = 0, unseated = 0;

	if (atomic_load(&c->deaths) < yard->deaths || !process_sleeps(yard_supervisor(yard)))
		return false;
	for (uint32_t i = 0; i < shared->header->entries; i++) {
		if (!atomic_load(&shared->workers[i].pid))
			continue;
		if (!is_calm_worker(shared, i))
			return false;
		if (atomic_load(&shared->workers[i].seat) >= 0)
			seated++;
		else
			unseated++;
	}
	return seated == pp__wanted_left(atomic_load(&shared->header->wanted), atomic_load(&c->idle_exits))
	       && unseated == yard->spare && !atomic_load(&c->spare) == !yard->spare && atomic_load(&c->deaths) == yard->deaths;
}

static void expect(struct yard *yard, const char *what, uint64_t is, uint64_t wanted)
{
	if (is != wanted)
		yard_fault(yard, WRONG, "the books: %s is %llu, not %llu", what, (unsigned long long)is,
		           (unsigned long long)wanted);
}

static uint64_t length(const pp_executor *ex, uint32_t list)
{
	uint64_t n = 0;

	for (; list && n <= atomic_load(&ex->slots); list = pp__future_at(ex, list - 1)->next_free)
		n++;
	return n;
}

/* Never used; or ended, in the generation before. */
static bool has_free_word(const pp_future *future)
{
	uint64_t word = pp__slot_look(pp__cell_of(future)), plain = pp__word_of(future, PP__FREE);

	if (!future->generation)
		return word == plain;
	return pp__word_is_like(word, plain - (UINT64_C(1) << 32)) && pp__state_is_end(pp__word_state(word));
}

/* On the lists, and on the stacks that will be the next. */
static uint64_t count_free(const pp_executor *ex)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < PP__FREE_LISTS; i++)
		n += length(ex, ex->free_slots[i].list) + length(ex, (uint32_t)atomic_load(&ex->free_slots[i].freed));
	return n;
}

/* All slots are free, and none has been lost on the way. */
static void check_slots(struct yard *yard)
{
	pp_executor *ex = yard->ex;
	uint64_t free_slots, words = 0, claims = 0, slots = atomic_load(&ex->slots);

	pthread_mutex_lock(&pp__lock);
	pp__drain(ex);
	pthread_mutex_unlock(&pp__lock);
	pthread_mutex_lock(&ex->submit_lock);
	pp__slots_harvest(ex);
	free_slots = count_free(ex);
	pthread_mutex_unlock(&ex->submit_lock);
	for (uint32_t i = 0; i < slots; i++) {
		const struct pp_future *future = pp__future_at(ex, i);
		struct pp__cell *cell = ex->segment.shared.cells + i;
		words += has_free_word(future);
		claims += atomic_load(&cell->claim) != 0;
	}
	expect(yard, "slots in use", pp__slots_in_use(ex), 0);
	expect(yard, "free slots", free_slots, slots);
	expect(yard, "words that say so", words, slots);
	expect(yard, "room noted in free slots", claims, 0);
}

static void check_units(struct yard *yard)
{
	const struct pp__shared *shared = &yard->ex->segment.shared;
	uint64_t used = 0;

	for (int big = 0; big < 2; big++)
		for (uint32_t i = 0; i < atomic_load(&shared->control->units_used[big]); i++)
			used += atomic_load(shared->units + (big ? shared->header->small_count : 0) + i) & UNIT_USED;
	expect(yard, "units in use", used, 0);
}

void books_check(struct yard *yard)
{
	struct pp__shared *shared = &yard->ex->segment.shared;
	struct pp__control *c = shared->control;
	uint64_t requeues = 0;

	check_slots(yard);
	check_units(yard);
	for (uint32_t i = 0; i < shared->header->entries; i++)
		requeues += atomic_load(&shared->workers[i].requeue) != 0;
	expect(yard, "slots put back and not taken", requeues, 0);
	expect(yard, "entries waiting in the ring", pp__ring_waiting(&yard->ex->rings[PP__NORMAL], shared), 0);
	expect(yard, "the searching worker", atomic_load(&c->searching), 0);
	expect(yard, "ends not taken from the stacks", atomic_load(&c->done) | atomic_load(&c->notices), 0);
	expect(yard, "deaths", atomic_load(&c->deaths), yard->deaths);
	expect(yard, "deaths that the mutex told of", atomic_load(&c->owner_deaths), yard->marks);
	expect(yard, "quarantined workers", atomic_load(&c->quarantined), 0);
	expect(yard, "ends that no wake told of", atomic_load(&yard->ex->rescues), 0);
	expect(yard, "a broken pool", atomic_load(&c->broken) || atomic_load(&yard->ex->broken), 0);
}

/* This process is a child subreaper: whatever of the executor loses its parent becomes its child. */
static bool are_gone(void *none)
{
	(void)none;
	while (waitpid(-1, NULL, WNOHANG | __WALL) > 0)
		;
	return errno == ECHILD;
}

void books_check_gone(struct yard *yard)
{
	if (!yard_until(are_gone, NULL))
		yard_fault(yard, HUNG, "a process is left over");
}

static void dump_worker(const struct pp__shared *shared, uint32_t i)
{
	struct pp__worker *line = shared->workers + i;

	if (!atomic_load(&line->pid) && !atomic_load(&line->requeue))
		return;
	printf("  entry %u: pid %d, seat %d, phase %u, incarnation %u, cur %u, tasks %llu, requeue %llx, tokens %d\n", i,
	       (int)atomic_load(&line->pid), (int)atomic_load(&line->seat), atomic_load(&line->phase),
	       atomic_load(&line->incarnation), atomic_load(&line->cur), (unsigned long long)atomic_load(&line->tasks),
	       (unsigned long long)atomic_load(&line->requeue), pp__sem_has_token(&line->wake));
	if (atomic_load(&line->pid))
		stepper_tell(stdout, atomic_load(&line->pid));
}

void books_dump(const struct yard *yard)
{
	const struct pp__shared *shared = &yard->ex->segment.shared;
	struct pp__control *c = shared->control;

	printf("  head %llu, tail %llu, searching %x, sleepers %llx, requeued %u, done %u, notices %u, armed %u, spare %u\n",
	       (unsigned long long)atomic_load(&c->heads[PP__NORMAL]), (unsigned long long)yard->ex->rings[PP__NORMAL].tail,
	       atomic_load(&c->searching), (unsigned long long)atomic_load(&c->sleepers[0]), atomic_load(&c->requeued),
	       atomic_load(&c->done), atomic_load(&c->notices), atomic_load(&c->armed), atomic_load(&c->spare));
	printf("  wanted %llx, closing %u, supervisor sleeps %d, broken %d, deaths %llu (there must be %llu), marked %llu, "
	       "restarts %llu, requeues %llu, in use %llu\n", (unsigned long long)atomic_load(&shared->header->wanted),
	       atomic_load(&shared->header->closing), atomic_load(&c->supervisor_wakes_ns) == PP__NEVER, atomic_load(&c->broken),
	       (unsigned long long)atomic_load(&c->deaths), (unsigned long long)yard->deaths,
	       (unsigned long long)atomic_load(&c->owner_deaths), (unsigned long long)atomic_load(&c->restarts),
	       (unsigned long long)atomic_load(&c->requeues), (unsigned long long)pp__slots_in_use(yard->ex));
	for (unsigned i = 0; i < yard->count; i++)
		printf("  part %u: slot %u, word %016llx, when killed %016llx%s\n", i, yard->parts[i].future->slot,
		       (unsigned long long)yard_word(&yard->parts[i]), (unsigned long long)yard->parts[i].word,
		       yard->parts[i].ours ? " (of the killed one)" : "");
	for (uint32_t i = 0; i < shared->header->entries; i++)
		dump_worker(shared, i);
	stepper_tell(stdout, yard_supervisor(yard));
}
