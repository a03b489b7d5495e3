/* SPDX-License-Identifier: MIT */
/*
 * Killed at every instruction. Each window is recorded once, step by step; then, for each of its points, the process runs
 * up to there and is killed, and what has to come of it is checked. The long form takes every instruction of our own
 * code, and in libraries every system call and every instruction that writes to the segment; the short form takes all of
 * the first window and samples of the others, whose seed is printed (CRASH_SEED repeats it).
 *
 * Windows run in processes of their own, one per CPU at a time: a window that hangs is killed, and the others go on.
 */
#include <errno.h>
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
#include "kills.h"

#define MAX_WINDOWS  64
#define MAX_FAULTS   3           /* of a window: then it is given up; CRASH_FAULTS overrides it */
#define SHORT_GUARD_S 150        /* a window that takes longer hangs */
#define FULL_GUARD_S 3600
#define TRIES        4           /* a branch may depend on when the supervisor last ticked */
#define WARM_UP      2           /* trials before the recording, after which all is as it will be */

static bool full;
static unsigned seed, max_faults = MAX_FAULTS;

static void reopen(struct yard *yard, const struct window *window)
{
	yard->options.flags = window->fresh && !window->start_all ? 0 : PP_START_ALL;
	yard->options.max_tasks_per_worker = window->max_tasks;
	yard->options.grace_ms = window->grace_ms ? window->grace_ms : PP_NONE;
	yard->options.idle_timeout_ms = window->idle_ms;
	yard->options.initializer = window->initializer;
	yard_open(yard, window->seats);
}

/* Brings the process to the point (NULL: to the window's end, which is recorded), and kills it there. */
static void kill_at(struct yard *yard, const struct window *window, const struct point *point, struct trace *trace)
{
	uint32_t entry;
	pid_t pid;
	enum stepper rc;

	if (!window->fresh)
		yard_settle(yard);
	pid = window->begin(yard, window, &entry);
	if (trace)
		rc = trace_record(trace, yard, pid, window->stop);
	else if (point)
		rc = stepper_run_to(pid, point->at, point->hit, window->stop);
	else
		rc = stepper_run_to(pid, window->stop, 1, 0);
	yard->reached = rc == STEPPER_OK;
	if (point && rc != STEPPER_OK) {
		printf("%s: %s: not reached: %s\n", window->name, yard->where, rc == STEPPER_DEAD ? "it ended before"
		       : rc == STEPPER_STUCK ? "it slept" : "the window ended before");
	}
	if (entry == PP__NO_SLOT)
		stepper_kill(pid);
	else if (rc != STEPPER_DEAD)
		yard_death(yard, pid, entry);
	else {
		yard_note(yard, PP__NO_SLOT);
		if (!window->idle_ms)
			yard_expect_death(yard, window->max_tasks == 0);
	}
	window->end(yard, window, entry);
}

/* One death. false: something was not as it must be, and the yard is gone. */
static bool trial(struct yard *yard, const struct window *window, const struct point *point, struct trace *trace)
{
	char name[64] = "";

	if (point)
		trace_name(name, sizeof name, point->at);
	snprintf(yard->where, sizeof yard->where, "killed after %u instructions, at %s, time %u", point ? point->index : 0,
	         name, point ? point->hit : 0);
	if (setjmp(yard->failed)) {
		yard_abandon(yard);
		return false;
	}
	if (!yard->ex)
		reopen(yard, window);
	kill_at(yard, window, point, trace);
	if (window->fresh)
		yard_close(yard);
	return true;
}

static void try_window(const struct window *window, struct tally *tally, int cpu)
{
	struct yard yard = { .tally = tally, .window = window->name, .options = PP_OPTIONS_INIT };
	struct trace trace = { .n = 0 };
	struct point *points;
	unsigned count = 0;
	bool good = true;

	yard_prepare(cpu);
	for (int i = 0; i < WARM_UP && good; i++)
		good = trial(&yard, window, NULL, NULL);
	if (!good || !trial(&yard, window, NULL, &trace))
		return;
	tally->steps = trace.n;
	points = trace_points(&trace, full ? UINT_MAX : window->own, full ? UINT_MAX : window->others, &seed, &count);
	for (unsigned i = 0; points && i < count && tally_faults(tally) < max_faults; i++) {
		tally->points++;
		*(points[i].own ? &tally->own : &tally->outside) += 1;
		yard.reached = false;
		for (int try = 0; try < TRIES && !yard.reached && trial(&yard, window, &points[i], NULL); try++)
			;
		tally->missed += !yard.reached;
	}
	if (yard.ex && !setjmp(yard.failed)) {
		yard_settle(&yard);
		yard_close(&yard);
	}
	free(points);
	trace_free(&trace);
}

static void print_tally(const char *name, const struct tally *tally, double seconds)
{
	printf("%s: %u points (%u in own code, %u in libraries) of %u instructions, %u not reached, %.1f s:", name,
	       tally->points, tally->own, tally->outside, tally->steps, tally->missed, seconds);
	for (int state = 0; state < PP__STATES; state++)
		for (int kind = 0; kind <= PP_BROKEN; kind++)
			if (tally->fates[state][kind])
				printf(" %s>%s %u", yard_state_name(state), pp_kind_name(kind), tally->fates[state][kind]);
	printf("\n");
	fflush(stdout);
}

static void add_tally(struct tally *sum, const struct tally *tally)
{
	sum->points += tally->points;
	sum->missed += tally->missed;
	sum->own += tally->own;
	sum->outside += tally->outside;
	for (int i = 0; i < FAULTS; i++)
		sum->faults[i] += tally->faults[i];
	for (int state = 0; state < PP__STATES; state++)
		for (int kind = 0; kind <= PP_BROKEN; kind++)
			sum->fates[0][kind] += tally->fates[state][kind];
}

static void print_summary(const struct tally *sum, unsigned windows)
{
	printf("%u points in %u windows (%u in own code, %u in libraries), %u not reached; futures:", sum->points, windows,
	       sum->own, sum->outside, sum->missed);
	for (int kind = 0; kind <= PP_BROKEN; kind++)
		if (sum->fates[0][kind])
			printf(" %u %s,", sum->fates[0][kind], pp_kind_name(kind));
	printf(" seed %u; %u lost, %u duplicated, %u hung, %u wrong\n", seed, sum->faults[LOST], sum->faults[DUPLICATED],
	       sum->faults[HUNG], sum->faults[WRONG]);
}

struct running { pid_t pid; const struct window *window; struct tally *tally; struct timespec started; };

static double since(const struct timespec *then)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)(now.tv_sec - then->tv_sec) + (double)(now.tv_nsec - then->tv_nsec) / 1e9;
}

static void start(struct running *running, const struct window *window, struct tally *tally, int cpu)
{
	*running = (struct running){ .window = window, .tally = tally };
	clock_gettime(CLOCK_MONOTONIC, &running->started);
	fflush(stdout);
	running->pid = fork();
	if (running->pid != 0)
		return;
	setpgid(0, 0);
	alarm(full ? FULL_GUARD_S : SHORT_GUARD_S);
	try_window(window, tally, cpu);
	fflush(stdout);
	_exit(0);
}

static void finish(struct running *running, struct tally *sum, int status)
{
	struct tally *tally = running->tally;

	if (!WIFEXITED(status)) {
		printf("%s: ended by signal %d\n", running->window->name, WTERMSIG(status));
		tally->faults[HUNG]++;
	}
	if (!tally->points && !tally_faults(tally))
		tally->faults[WRONG]++;          /* it has tried nothing */
	print_tally(running->window->name, tally, since(&running->started));
	add_tally(sum, tally);
	running->pid = 0;
}

/* All windows that are asked for, as many at a time as there are CPUs. */
static void run_all(const struct window *windows, unsigned n, struct tally *tallies, struct tally *sum)
{
	struct running running[2] = { { 0 } };
	int cpus[2], cpu_count = 0, status;
	cpu_set_t set;
	unsigned next = 0, busy = 0;

	sched_getaffinity(0, sizeof set, &set);
	for (int cpu = 0; cpu < CPU_SETSIZE && cpu_count < 2; cpu++)
		if (CPU_ISSET(cpu, &set))
			cpus[cpu_count++] = cpu;
	while (next < n || busy) {
		for (int i = 0; i < cpu_count && next < n; i++)
			if (!running[i].pid) {
				start(&running[i], &windows[next], &tallies[next], cpus[i]);
				next++;
				busy++;
			}
		pid_t pid = wait(&status);
		for (int i = 0; i < cpu_count; i++)
			if (pid > 0 && running[i].pid == pid) {
				finish(&running[i], sum, status);
				busy--;
			}
	}
}

static unsigned choose(struct window *chosen, unsigned n, const struct window *from, unsigned count, const char *name)
{
	for (unsigned i = 0; i < count && n < MAX_WINDOWS; i++)
		if (!name || strstr(from[i].name, name))
			chosen[n++] = from[i];
	return n;
}

int main(int argc, char **argv)
{
	struct window windows[MAX_WINDOWS];
	struct tally *tallies, sum = { 0 };
	const char *text = getenv("CRASH_SEED"), *faults = getenv("CRASH_FAULTS");
	unsigned n = 0;

	full = argc > 1 && strcmp(argv[1], "full") == 0;
	seed = text ? (unsigned)strtoul(text, NULL, 0) : (unsigned)time(NULL);
	max_faults = faults ? (unsigned)strtoul(faults, NULL, 10) : MAX_FAULTS;
	if (!stepper_allowed()) {
		printf("this process may not trace others\n");
		return 77;
	}
	n = choose(windows, n, worker_windows, worker_window_count, argc > 2 ? argv[2] : NULL);
	n = choose(windows, n, supervisor_windows, supervisor_window_count, argc > 2 ? argv[2] : NULL);
	tallies = mmap(NULL, sizeof *tallies * MAX_WINDOWS, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (tallies == MAP_FAILED)
		return 1;
	run_all(windows, n, tallies, &sum);
	print_summary(&sum, n);
	return tally_faults(&sum) ? 1 : 0;
}
