/* SPDX-License-Identifier: MIT */
/*
 * Two workers and a cancel or a kill, interleaved at accesses to shared memory with at most two preemptions. A schedule:
 * the first worker runs to its access i and is stopped there, the second one to its access j, the parent cancels or kills,
 * then the first runs to its end, then the second. Accesses are recorded, those of the second one anew for each i, because
 * its way depends on where the first one stands; to reach one again takes one breakpoint. An end is the next sleep.
 *
 * What became of each future must be what its word said right after the parent's act. The long form tries every i and j
 * in both orders of the workers; the short form every i with the second worker at its start and at its end, and of the
 * rest as many as fit into its time, drawn by a seed that is printed (CRASH_SEED repeats it). The supervisor stands still except where it has to kill, so that slowness is not taken for a death.
 */
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "access.h"
#include "yard.h"

#define SHORT_MS     1200        /* for a scenario */
#define SHORT_FIRSTS 3           /* places of the first worker, however long it takes; and */
#define SHORT_DRAWS  5           /* of the second worker's accesses, for each of the first's */
#define GUARD_S      120         /* beyond it the short form of a scenario hangs */
#define GUARD_FULL_S 7200
#define MAX_FAULTS   3           /* of a scenario: then it is given up */
#define TRIES        3

enum act { ACT_NONE, ACT_CANCEL, ACT_KILL };

static const struct scenario { const char *name; unsigned seats, jobs; enum act act; } scenarios[] = {
	{ "one worker, cancel", 1, 1, ACT_CANCEL },
	{ "one worker, kill", 1, 1, ACT_KILL },
	{ "two workers, one task", 2, 1, ACT_NONE },
	{ "two workers, two tasks", 2, 2, ACT_NONE },
	{ "two workers, one task, cancel", 2, 1, ACT_CANCEL },
	{ "two workers, two tasks, cancel of the first", 2, 2, ACT_CANCEL },
	{ "two workers, one task, kill", 2, 1, ACT_KILL },
};

#define SCENARIOS (sizeof scenarios / sizeof *scenarios)

struct side { pid_t pid; enum { HELD, AT_END, DEAD } state; };

/* Where the two are stopped; NULL: not started. A list, or second_ends: to the end. */
struct schedule {
	int order;
	const struct access *first, *second;
	struct access_list *record_first, *record_second;
	bool second_ends;
};

/* tally.points are the schedules tried. */
struct result { struct tally tally; double of; unsigned shortest[2], longest[2]; };

static bool full;
static unsigned seed;

/* The workers with a seat, in the order of the schedule; stopped where they sleep. */
static void take_workers(struct yard *yard, const struct schedule *schedule, struct side sides[2])
{
	const struct pp__shared *shared = &yard->ex->segment.shared;
	unsigned n = 0;

	for (uint32_t i = 0; i < shared->header->entries && n < yard->seats; i++)
		if (atomic_load(&shared->workers[i].pid) && atomic_load(&shared->workers[i].seat) >= 0)
			sides[n++ ^ (yard->seats == 2 && schedule->order)] =
				(struct side){ .pid = atomic_load(&shared->workers[i].pid) };
	for (unsigned i = 0; i < n; i++)
		if (!stepper_attach(sides[i].pid))
			yard_fault(yard, WRONG, "a worker cannot be traced");
}

/* Both are awake from the start: the one that submit has woken, and the other as by a wake that comes late. */
static void wake_all(struct yard *yard)
{
	const struct pp__shared *shared = &yard->ex->segment.shared;

	for (uint32_t i = 0; i < shared->header->entries; i++)
		if (atomic_load(&shared->workers[i].pid) && atomic_load(&shared->workers[i].seat) >= 0
		    && !pp__sem_has_token(&shared->workers[i].wake))
			pp__sem_post(&shared->workers[i].wake);
}

static void set_side(struct yard *yard, struct side *side, enum stepper rc, bool to_end)
{
	if (rc == STEPPER_STUCK)
		yard_fault(yard, HUNG, "process %d sleeps where it must not", (int)side->pid);
	if (rc == STEPPER_DEAD)
		side->state = DEAD;
	else if (rc == STEPPER_MISSED || to_end)
		side->state = AT_END;
}

/* false: it did not come by the place. */
static bool advance(struct yard *yard, struct side *side, const struct access *to, struct access_list *list)
{
	const struct pp__shared *shared = &yard->ex->segment.shared;
	uintptr_t low = (uintptr_t)shared->control, high = (uintptr_t)shared->base + shared->header->size;
	enum stepper rc;

	if (list)
		rc = access_record(list, side->pid, low, high, (uintptr_t)pp__sem_wait);
	else if (to)
		rc = stepper_run_to(side->pid, to->at, to->hit, (uintptr_t)pp__sem_wait);
	else
		rc = stepper_run_to(side->pid, (uintptr_t)pp__sem_wait, 1, 0);
	set_side(yard, side, rc, !to);
	return rc == STEPPER_OK;
}

static void finish(struct yard *yard, struct side *side)
{
	if (side->state == HELD)
		set_side(yard, side, stepper_run_to(side->pid, (uintptr_t)pp__sem_wait, 1, 0), true);
}

/* The parent's move, and what the word says behind it. A kill that came in time is carried out by the supervisor. */
static void act(struct yard *yard, enum act act)
{
	struct part *part = &yard->parts[0];
	bool cancelled;

	part->word = yard_word(part);
	if (act == ACT_CANCEL) {
		cancelled = pp_future_cancel(part->future);
		if (cancelled != (pp__word_state(yard_word(part)) == PP__CANCELLED))
			yard_fault(yard, WRONG, "cancel returned %d", cancelled);
	} else if (act == ACT_KILL) {
		pp_future_kill(part->future);
		if (pp__word_state(yard_word(part)) == PP__STOP_KILL)
			yard_expect_death(yard, true);
		kill(yard_supervisor(yard), SIGCONT);
	}
}

static bool is_told(void *part_)
{
	struct part *part = part_;
	bool heard = pp__word_state(yard_word(part)) == PP__CANCELLED || part->deaf
	             || pp__sem_has_token(&pp__cell_of(part->future)->wake);

	return yard_is_announced(part) && heard;
}

/* after: what the word said behind the parent's move. */
static void judge(struct yard *yard, struct part *part, enum pp__state after)
{
	int wanted = after == PP__CANCELLED ? PP_CANCELLED : after == PP__STOP_KILL ? PP_KILLED : PP_RETURNED;
	unsigned n = yard_runs(part);
	const pp_outcome *o;

	if (!yard_until(yard_has_ended, part))
		yard_fault(yard, HUNG, "the future does not end");
	if (!yard_until(is_told, part))
		yard_fault(yard, HUNG, "the end is not announced");
	o = pp__future_outcome(part->future);
	if (!o)
		yard_fault(yard, WRONG, "no memory");
	yard->tally->fates[pp__word_state(part->word)][o->kind]++;
	if (n > 1)
		yard_fault(yard, DUPLICATED, "job %u was run %u times", part->job.id, n);
	if (o->kind != wanted)
		yard_fault(yard, LOST, "state %d became %d, the future %s (%s)", (int)pp__word_state(part->word), (int)after,
		           pp_kind_name(o->kind), o->message);
	if (wanted == PP_RETURNED && (n != 1 || !yard_is_right(&part->job, o)))
		yard_fault(yard, WRONG, "returned %zu bytes, run %u times", o->size, n);
	if (wanted == PP_CANCELLED && n)
		yard_fault(yard, WRONG, "cancelled, and run");
}

static void judge_all(struct yard *yard, const enum pp__state *after)
{
	for (unsigned i = 0; i < yard->count; i++)
		judge(yard, &yard->parts[i], after[i]);
	yard_forget(yard);
	yard_submit(yard, JOB_RETURN, 3);        /* its word is not noted: it counts under FREE, which is not printed */
	yard_judge(yard);
}

/* Of one that was killed while it was stopped, its parent hears when the tracer has; one that lives is let go already. */
static void take_end(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, __WALL) == pid && WIFSTOPPED(status))
		;
}

/* Both to their ends; then they sleep again, and the supervisor works. */
static void let_go(struct yard *yard, struct side sides[2])
{
	for (unsigned i = 0; i < yard->seats; i++)
		finish(yard, &sides[i]);
	for (unsigned i = 0; i < yard->seats; i++) {
		if (sides[i].state != DEAD)
			stepper_release(sides[i].pid);
		take_end(sides[i].pid);
	}
	kill(yard_supervisor(yard), SIGCONT);
}

/* In a pool that is calm. false: a place was not come by. */
static bool run_schedule(struct yard *yard, const struct scenario *scenario, const struct schedule *s)
{
	enum pp__state after[YARD_PARTS];
	struct side sides[2] = { { 0 } };
	bool reached = true;

	yard_settle(yard);
	kill(yard_supervisor(yard), SIGSTOP);
	take_workers(yard, s, sides);
	atomic_store(&yard->ex->segment.shared.control->supervisor_wakes_ns, PP__NEVER);
	for (unsigned i = 0; i < scenario->jobs; i++)
		yard_submit(yard, JOB_RETURN, 3);
	wake_all(yard);
	if (s->first || s->record_first)
		reached = advance(yard, &sides[0], s->first, s->record_first);
	if (reached && (s->second || s->record_second || s->second_ends))
		reached = advance(yard, &sides[1], s->second, s->record_second);
	yard_note(yard, PP__NO_SLOT);
	act(yard, scenario->act);
	for (unsigned i = 0; i < yard->count; i++)
		after[i] = pp__word_state(yard_word(&yard->parts[i]));
	let_go(yard, sides);
	judge_all(yard, after);
	return reached;
}

static void attempt(struct yard *yard, const struct scenario *scenario, const struct schedule *s, unsigned i, unsigned j)
{
	bool reached = false;

	snprintf(yard->where, sizeof yard->where, "order %d, first at access %u (%lx, time %u), second at %u (%lx, time %u)",
	         s->order, i, (unsigned long)(s->first ? s->first->at : 0), s->first ? s->first->hit : 0,
	         j, (unsigned long)(s->second ? s->second->at : 0), s->second ? s->second->hit : 0);
	yard->tally->points++;
	if (setjmp(yard->failed)) {
		yard_abandon(yard);
		return;
	}
	for (int n = 0; n < TRIES && !reached; n++) {
		if (!yard->ex)
			yard_open(yard, scenario->seats);
		reached = run_schedule(yard, scenario, s);
	}
	yard->tally->missed += !reached;
}

static void note_length(struct result *result, int side, unsigned n)
{
	result->shortest[side] = result->longest[side] && result->shortest[side] < n ? result->shortest[side] : n;
	result->longest[side] = result->longest[side] > n ? result->longest[side] : n;
}

/* Before the second worker starts, and when it has come to its end, while the first one stands at a place. */
static void try_ends(struct yard *yard, const struct scenario *scenario, struct schedule s, unsigned i)
{
	attempt(yard, scenario, &s, i, 0);
	s.second_ends = true;
	if (scenario->seats == 2)
		attempt(yard, scenario, &s, i, UINT_MAX);
}

/* All places of the second worker in between, or some. Recording them is none of the schedules. */
static void try_second(struct yard *yard, const struct scenario *scenario, struct result *result, struct schedule s,
                       unsigned i)
{
	struct access_list list = { .n = 0 };
	unsigned count;

	s.record_second = &list;
	attempt(yard, scenario, &s, i, UINT_MAX);
	yard->tally->points--;
	s.record_second = NULL;
	count = full || list.n < SHORT_DRAWS ? list.n : SHORT_DRAWS;
	note_length(result, 1, list.n);
	for (unsigned k = 0; k < count && tally_faults(yard->tally) < MAX_FAULTS; k++) {
		unsigned j = full ? k : (unsigned)rand_r(&seed) % list.n;
		s.second = &list.accesses[j];
		attempt(yard, scenario, &s, i, j + 1);
	}
	access_free(&list);
}

static void try_order(struct yard *yard, const struct scenario *scenario, struct result *result, int order, int64_t until)
{
	struct access_list list = { .n = 0 };
	struct schedule s = { .order = order };

	attempt(yard, scenario, &s, 0, 0);       /* and so the recorded one is not the first of its pool */
	s.record_first = &list;
	attempt(yard, scenario, &s, UINT_MAX, 0);
	s.record_first = NULL;
	note_length(result, 0, list.n);
	for (unsigned i = 0; i < list.n && tally_faults(yard->tally) < MAX_FAULTS; i++) {
		s.first = &list.accesses[i];
		try_ends(yard, scenario, s, i + 1);
	}
	for (unsigned i = 0; list.n && scenario->seats == 2 && tally_faults(yard->tally) < MAX_FAULTS; i++) {
		unsigned at = full ? i : (unsigned)rand_r(&seed) % list.n;
		if (at == list.n || (!full && i >= SHORT_FIRSTS && yard_now_ms() >= until))
			break;
		s.first = &list.accesses[at];
		try_second(yard, scenario, result, s, at + 1);
	}
	result->of += 2 + (double)list.n * (scenario->seats < 2 ? 1 : 2 + (result->shortest[1] + result->longest[1]) / 2.0);
	access_free(&list);
}

static void try_scenario(const struct scenario *scenario, struct result *result)
{
	struct yard yard = { .tally = &result->tally, .window = scenario->name, .options = PP_OPTIONS_INIT };
	int64_t start = yard_now_ms();

	yard.options.flags = PP_START_ALL;
	yard_prepare(sched_getcpu());
	for (int order = 0; order < (int)scenario->seats; order++)
		try_order(&yard, scenario, result, order, start + SHORT_MS * (order + 1) / (int)scenario->seats);
	if (yard.ex && !setjmp(yard.failed)) {
		yard_settle(&yard);
		yard_close(&yard);
	}
}

static void print_result(const char *name, const struct result *r, double seconds)
{
	printf("%s: %u schedules of %s%.0f (%u to %u accesses of the first worker, %u to %u of the second), %u not reached, "
	       "%.1f s:", name, r->tally.points, full ? "" : "about ", full ? (double)r->tally.points : r->of, r->shortest[0],
	       r->longest[0], r->shortest[1], r->longest[1], r->tally.missed, seconds);
	for (int state = PP__READY; state < PP__STATES; state++)
		for (int kind = 0; kind <= PP_BROKEN; kind++)
			if (r->tally.fates[state][kind])
				printf(" %s>%s %u", yard_state_name(state), pp_kind_name(kind), r->tally.fates[state][kind]);
	printf("\n");
	fflush(stdout);
}

/* In a process of its own: one that hangs is killed, and the others are tried. */
static void run_scenario(const struct scenario *scenario, struct result *result)
{
	int64_t start = yard_now_ms();
	int status = 0;
	pid_t pid;

	pid = fork();                            /* nothing is left in stdout: print_result has flushed it */
	if (pid == 0) {
		alarm(full ? GUARD_FULL_S : GUARD_S);
		try_scenario(scenario, result);
		fflush(stdout);
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status)) {
		printf("%s: ended by signal %d\n", scenario->name, WTERMSIG(status));
		result->tally.faults[HUNG]++;
	}
	if (result->longest[0] < 10 && !tally_faults(&result->tally))
		result->tally.faults[WRONG]++;           /* it has not seen what it is about */
	print_result(scenario->name, result, (double)(yard_now_ms() - start) / 1e3);
}

int main(int argc, char **argv)
{
	const char *text = getenv("CRASH_SEED");
	unsigned faults[FAULTS] = { 0 }, points = 0, missed = 0, bad = 0, first_seed;
	struct result *results;
	double of = 0;

	full = argc > 1 && strcmp(argv[1], "full") == 0;
	first_seed = text ? (unsigned)strtoul(text, NULL, 0) : (unsigned)time(NULL);
	if (!stepper_allowed()) {
		printf("this process may not trace others\n");
		return 77;
	}
	results = mmap(NULL, sizeof *results * SCENARIOS, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (results == MAP_FAILED)
		return 1;
	for (unsigned i = 0; i < SCENARIOS; i++) {
		if (argc > 2 && !strstr(scenarios[i].name, argv[2]))
			continue;
		seed = first_seed + i;
		run_scenario(&scenarios[i], &results[i]);
		points += results[i].tally.points;
		missed += results[i].tally.missed;
		of += full ? results[i].tally.points : results[i].of;
		bad += tally_faults(&results[i].tally);
		for (int k = 0; k < FAULTS; k++)
			faults[k] += results[i].tally.faults[k];
	}
	printf("%u schedules of %s%.0f tried (at most 2 preemptions), %u not reached; seed %u; %u lost, %u duplicated, "
	       "%u hung, %u wrong\n", points, full ? "" : "about ", of, missed, first_seed, faults[LOST], faults[DUPLICATED],
	       faults[HUNG], faults[WRONG]);
	return bad ? 1 : 0;
}
