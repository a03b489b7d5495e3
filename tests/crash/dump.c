/* SPDX-License-Identifier: MIT */
/* See dump.h. */
#include "dump.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "pool.h"

#define SLOTS_MAX 400
#define ENTRIES_MAX 40

static const char *const states[] = { "FREE", "READY", "DELAYED", "FAILED", "CLAIMED", "RUNNING", "ASKED_KILL",
                                      "ASKED_TIME", "STOP_KILL", "STOP_TIME", "STOP_MEMORY", "STOP_REQUEUE", "DONE", "DIED",
                                      "KILLED", "TIMED_OUT", "MEMORY", "CANCELLED", "BROKEN" };

static void dump_word(uint64_t word)
{
	unsigned state = pp__word_state(word);

	fprintf(stderr, "%s%s%s owner %u/%u generation %u", state < PP__STATES ? states[state] : "?",
	        word & PP__WANT_WAKE ? "+wake" : "", word & PP__WANT_PUSH ? "+push" : "", pp__word_worker(word),
	        pp__word_incarnation(word), pp__word_generation(word));
}

static void process_state(pid_t pid, char *text, size_t size)
{
	char path[64], line[512];
	FILE *file;
	char *at;

	snprintf(text, size, "gone");
	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	file = pid > 0 ? fopen(path, "r") : NULL;
	if (!file)
		return;
	at = fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL;
	if (at)
		snprintf(text, size, "%.2s", at + 2);
	fclose(file);
}

static void dump_control(const pp_executor *ex)
{
	const struct pp__header *h = ex->segment.shared.header;
	struct pp__control *c = ex->segment.shared.control;
	char text[16];

	process_state(ex->supervisor.pid, text, sizeof text);
	fprintf(stderr, "# supervisor %d (%s) wakes at %lld finished %u broken %d; wanted %u at %u idle exits, now %u,"
	        " closing %u initialized %u\n", (int)ex->supervisor.pid, text, (long long)c->supervisor_wakes_ns, c->finished,
	        c->broken, (uint32_t)h->wanted, pp__wanted_exits(h->wanted), c->idle_exits, h->closing, c->initialized);
	fprintf(stderr, "# head %llu (ring %llu) tail %llu; searching %u requeued %u sleepers %llx done %u notices %u armed %u"
	        " spare %u\n", (unsigned long long)c->heads[1] >> 1, (unsigned long long)c->heads[1] & 1,
	        (unsigned long long)ex->rings[PP__NORMAL].tail, c->searching, c->requeued, (unsigned long long)c->sleepers[0], c->done,
	        c->notices, c->armed, c->spare);
	fprintf(stderr, "# deaths %llu restarts %llu requeues %llu quarantined %llu; units used %u small, %u big\n",
	        (unsigned long long)c->deaths, (unsigned long long)c->restarts, (unsigned long long)c->requeues,
	        (unsigned long long)c->quarantined, c->units_used[0], c->units_used[1]);
}

static void dump_worker(const pp_executor *ex, uint32_t entry)
{
	const struct pp__worker *w = ex->segment.shared.workers + entry;
	char text[16];

	process_state(w->pid, text, sizeof text);
	fprintf(stderr, "# worker %u: pid %d (%s) phase %u seat %d incarnation %u cur %d tasks %llu requeue %llx"
	        " condemned %u tokens %d\n",
	        entry, w->pid, text, w->phase, w->seat, w->incarnation, (int)w->cur, (unsigned long long)w->tasks,
	        (unsigned long long)w->requeue, w->condemned, pp__sem_has_token(&w->wake));
}

/* Those that there are, whatever the lines say. */
static void dump_children(pid_t supervisor)
{
	char path[64], text[1024] = "", state[16], *at = text, *end;
	FILE *file;
	long pid;

	snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)supervisor, (int)supervisor);
	file = fopen(path, "r");
	if (!file)
		return;
	if (!fgets(text, sizeof text, file))
		*text = 0;
	fclose(file);
	fputs("# its children:", stderr);
	for (; (pid = strtol(at, &end, 10)) > 0; at = end) {
		process_state((pid_t)pid, state, sizeof state);
		fprintf(stderr, " %ld (%s)", pid, state);
	}
	fputc('\n', stderr);
}

static void dump_slot(const pp_executor *ex, const pp_future *future, const char *list)
{
	uint64_t word = ex->segment.shared.cells[future->slot].word;

	fprintf(stderr, "# slot %u:%s refs %u armed %d announced %d generation %u box %d blocks %u: ", future->slot, list,
	        future->refs, future->armed, future->announced, future->generation, pp__is_boxed(future),
	        pp__extra_of(future)->passed);
	dump_word(word);
	fprintf(stderr, "%s\n", pp__word_is_like(word, pp__word_of(future, PP__FREE)) ? "" : " (not of this slot and generation)");
}

/* Recycled, but not free yet. */
static void dump_list(const pp_executor *ex, uint32_t at, const char *list)
{
	for (uint32_t n = 0; at && n < SLOTS_MAX; n++) {
		const pp_future *future = pp__future_at(ex, at - 1);
		dump_slot(ex, future, list);
		at = future->next_free;
	}
}

void dump_executor(const pp_executor *ex)
{
	uint32_t n = 0;

	if (!ex)
		return;
	dump_control(ex);
	dump_children(ex->supervisor.pid);
	for (uint32_t i = 0; i < ex->segment.shared.header->entries && i < ENTRIES_MAX; i++)
		dump_worker(ex, i);
	for (uint32_t i = 0; i < ex->slots && n < SLOTS_MAX; i++) {
		pp_future *future = pp__future_at(ex, i);
		if (!future->in_use)
			continue;
		n++;
		dump_slot(ex, future, "");
	}
	dump_list(ex, ex->returned, " returned,");
	dump_list(ex, ex->limbo, " in limbo,");
}
