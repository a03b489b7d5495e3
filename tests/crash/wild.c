/* SPDX-License-Identifier: MIT */
/*
 * Wild writes. Tasks scribble over everything in the segment that they can write to, then go on, crash or hang, while
 * innocent tasks run. Each run is an application of its own, a fork of this program, so that whatever becomes of it is
 * seen from outside. What must hold: the application never crashes, hangs or reads out of bounds (it is built with ASan
 * and UBSan where the compiler has them); each call comes to an end; an innocent task's future has its right result, or
 * an error; its argument, which is out of the vandals' reach, is what was submitted; all slots come back.
 *
 * What is counted and allowed: an innocent task that ran twice, for a state word was forged; wrong bytes of a result that
 * the vandals could reach, for these lie in the same memory and nothing but a copy could tell.
 *
 * One run in four has PP_HARDENED. In those nothing is allowed: each innocent task runs once and has its right result, no
 * vandal returns, and the pool goes on.
 *
 * A run that fails says so with its seed and the state of its pool. The long form goes on after that, and tells how far it
 * has come. CRASH_SEED tries one seed, CRASH_RUNS so many from it on, as the long form does.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "dump.h"
#include "pool.h"
#include "vandal.h"

#define INNOCENTS 12
#define VANDALS   5
#define CALL_MS   8000           /* guards, not measures */
#define PATIENCE_MS 100
#define RUN_MS    90000
#define SHORT_MS  10000
#define AT_A_TIME 4              /* a run mostly waits */
#define FULL_RUNS 10000
#define TOLD_RUNS 1000           /* how far the long form has come */
#define MAX_BAD   5              /* then the short form is given up */
#define DUMP_S    5
#define HARDENED_PART 4

enum count { RETURNED, FAILED, OVERWRITTEN, TWICE, HEALED, BROKEN, IMMUNE, COUNTS };
static const char *const count_names[COUNTS] = { "right", "errors", "overwritten in place", "run twice", "runs healed",
                                                 "pools broken", "right in hardened pools" };

/* Shared by all processes; no part of any segment. */
struct tally { atomic_ulong counts[COUNTS]; };
static struct tally *tally;
static atomic_uint *ran;         /* by the processes of one run: how often each task was started, innocents first */
static struct vandal_hits *hits;
static pp_executor *tested;
static uint64_t running;         /* its seed */

struct innocent { uint32_t number, sum; uint32_t size, nap_us; unsigned char bytes[112]; };

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static uint32_t below(uint64_t *state, uint32_t n) { return (uint32_t)(next_random(state) >> 32) % n; }

static uint32_t sum(const unsigned char *bytes, size_t size)
{
	uint32_t a = 1, b = 0;

	for (size_t i = 0; i < size; i++)
		b += a += bytes[i];
	return a ^ b << 16;
}

static unsigned char result_byte(const struct innocent *in, size_t i)
{
	return (unsigned char)(in->bytes[i % sizeof in->bytes] + i);
}

/* Returns in->size bytes that follow from its argument; 77 says that the argument is not what was submitted. */
static int task_innocent(pp_task *task, const void *data, size_t size)
{
	static unsigned char result[8192];
	struct innocent in;

	if (size != sizeof in)
		return 77;
	memcpy(&in, data, sizeof in);
	if (in.number >= INNOCENTS || in.size > sizeof result || sum(in.bytes, sizeof in.bytes) != in.sum)
		return 77;
	atomic_fetch_add(&ran[in.number], 1);
	usleep(in.nap_us);
	for (size_t i = 0; i < in.size; i++)
		result[i] = result_byte(&in, i);
	return pp_return(task, result, in.size);
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void *shared_memory(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		abort();
	return memory;
}

_Noreturn static void fail(uint64_t seed, const char *what, int number)
{
	static char text[1 << 16];       /* all of it in one piece: other runs write, too */

	setvbuf(stderr, text, _IOFBF, sizeof text);
	fprintf(stderr, "wild: seed %llu: %s (%d)\n", (unsigned long long)seed, what, number);
	if (tested)
		dump_executor(tested);
	fflush(stderr);
	_exit(1);
}

/* Of a run that hangs, by the signal that ends it. What it is in may hold a lock that this needs. */
static void say_where(int signal)
{
	alarm(DUMP_S);
	fail(running, "was in this state", signal);
}

static void draw_innocent(struct innocent *in, uint32_t number, uint64_t *random)
{
	static const uint32_t sizes[] = { 0, 8, 16, 100, 256, 3000, 8000 };

	in->number = number;
	in->size = sizes[below(random, sizeof sizes / sizeof *sizes)];
	in->nap_us = below(random, 2) ? 0 : below(random, 2000);
	for (size_t i = 0; i < sizeof in->bytes; i++)
		in->bytes[i] = (unsigned char)next_random(random);
	in->sum = sum(in->bytes, sizeof in->bytes);
}

static bool is_hardened(uint64_t seed) { return seed % HARDENED_PART == 0; }

static void judge(const pp_outcome *o, const struct innocent *in, uint64_t seed)
{
	const unsigned char *bytes = o->data;
	bool right = o->size == in->size;

	if (o->kind == PP_RAISED && o->code == 77)
		fail(seed, "an argument was changed", (int)in->number);
	if (o->kind != PP_RETURNED && is_hardened(seed))
		fail(seed, "an innocent task of a hardened pool did not return", (int)o->kind);
	if (o->kind != PP_RETURNED) {
		atomic_fetch_add(&tally->counts[FAILED], 1);
		return;
	}
	/* All of it is read, whatever it is: it must be there. */
	for (size_t i = 0; i < o->size; i++)
		right &= bytes[i] == result_byte(in, i);
	if (!right && is_hardened(seed))
		fail(seed, "a result in a hardened pool was overwritten", (int)in->number);
	atomic_fetch_add(&tally->counts[!right ? OVERWRITTEN : is_hardened(seed) ? IMMUNE : RETURNED], 1);
}

/* Half of them by waits for many, so that the stacks and the bell take part. */
static void collect(pp_future **futures, const struct innocent *in, uint64_t *random, uint64_t seed)
{
	const pp_outcome *o;

	if (below(random, 2)) {
		int n = pp_wait(futures, INNOCENTS, PP_ALL_COMPLETED, CALL_MS);
		if (n != INNOCENTS)
			fail(seed, "a wait for all did not end", n);
	}
	for (int i = 0; i < INNOCENTS; i++) {
		int rc = pp_future_result(futures[i], CALL_MS, &o);
		if (rc < 0)
			fail(seed, "an innocent future did not end", rc);
		judge(o, &in[i], seed);
		if (atomic_load(&ran[i]) != 1 && is_hardened(seed))
			fail(seed, "an innocent task of a hardened pool did not run once", (int)atomic_load(&ran[i]));
		if (atomic_load(&ran[i]) > 1)
			atomic_fetch_add(&tally->counts[TWICE], 1);
		pp_future_free(futures[i]);
	}
}

static void end_vandals(pp_future **futures, uint64_t seed)
{
	const pp_outcome *o;

	for (int i = 0; i < VANDALS; i++) {
		int rc = pp_future_result(futures[i], 20, NULL);
		if (rc == -ETIMEDOUT)
			pp_future_kill(futures[i]);
		rc = pp_future_result(futures[i], CALL_MS, &o);
		if (rc == 0 && is_hardened(seed) && (o->kind == PP_RETURNED || o->kind == PP_EXITED))
			fail(seed, "a vandal in a hardened pool did not die of its first write", (int)o->kind);
		if (rc < 0)
			fail(seed, "a vandal's future did not end", rc);
		pp_future_free(futures[i]);
	}
}

/* After it all: does a new task still return, or is there a reason why not? */
static void try_again(pp_executor *ex, uint64_t seed)
{
	struct innocent in;
	const pp_outcome *o;
	pp_future *future;
	int rc;

	memset(&in, 0, sizeof in);
	in.sum = sum(in.bytes, sizeof in.bytes);
	rc = pp_submit(ex, task_innocent, &in, sizeof in, &future);
	if (rc == -EPIPE && !is_hardened(seed)) {
		atomic_fetch_add(&tally->counts[BROKEN], 1);
		return;
	}
	if (rc < 0)
		fail(seed, "a submit afterwards failed", rc);
	rc = pp_future_result(future, CALL_MS, &o);
	if (rc < 0)
		fail(seed, "a task afterwards did not end", rc);
	if (o->kind != PP_RETURNED && is_hardened(seed))
		fail(seed, "a hardened pool did not go on", (int)o->kind);
	atomic_fetch_add(&tally->counts[o->kind == PP_RETURNED ? HEALED : BROKEN], 1);
	pp_future_free(future);
}

static void check_books(pp_executor *ex, uint64_t seed)
{
	uint64_t in_use;

	pthread_mutex_lock(&ex->submit_lock);
	pp__slots_harvest(ex);
	in_use = pp__slots_in_use(ex);
	pthread_mutex_unlock(&ex->submit_lock);
	if (in_use)
		fail(seed, "slots are still in use", (int)in_use);
}

/* The application. */
static void run(uint64_t seed)
{
	pp_options options = PP_OPTIONS_INIT;
	pp_future *innocents[INNOCENTS], *vandals[VANDALS];
	struct innocent in[INNOCENTS];
	uint64_t random = seed * UINT64_C(0x9e3779b97f4a7c15) | 1;
	pp_executor *ex;
	int rc, n = 0, v = 0;

	ran = shared_memory((INNOCENTS + VANDALS) * sizeof *ran);
	options.max_workers = 3;
	options.flags = is_hardened(seed) ? PP_HARDENED : 0;
	options.grace_ms = below(&random, 2) ? PP_NONE : 10;     /* a vandal that hangs is stopped at once, or in steps */
	rc = pp_executor_create(&ex, &options);
	if (rc < 0)
		fail(seed, "create", rc);
	tested = ex;
	while (n < INNOCENTS || v < VANDALS) {
		if (v < VANDALS && (n == INNOCENTS || below(&random, 3) == 0)) {
			struct vandal vandal = { .shared = ex->segment.shared, .hits = hits, .starts = &ran[INNOCENTS + v],
			                         .random = next_random(&random) };
			rc = pp_submit(ex, task_vandal, &vandal, sizeof vandal, &vandals[v++]);
		} else {
			draw_innocent(&in[n], (uint32_t)n, &random);
			rc = pp_submit(ex, task_innocent, &in[n], sizeof in[n], &innocents[n]);
			n++;
		}
		if (rc < 0)
			fail(seed, "a submit failed", rc);
	}
	pp_wait(innocents, INNOCENTS, PP_ALL_COMPLETED, PATIENCE_MS);     /* those that hang may have all workers */
	end_vandals(vandals, seed);
	collect(innocents, in, &random, seed);
	try_again(ex, seed);
	rc = pp_executor_shutdown(ex, PP_SHUTDOWN_WAIT | PP_SHUTDOWN_KILL, CALL_MS);
	if (rc < 0)
		fail(seed, "shutdown", rc);
	check_books(ex, seed);
	pp_executor_free(ex);
}

struct apart { pid_t pid; uint64_t seed; int64_t until; };

static void start_apart(struct apart *apart, uint64_t seed)
{
	struct rlimit none = { 0, 0 };

	*apart = (struct apart){ .seed = seed, .until = now_ms() + RUN_MS };
	apart->pid = fork();
	if (apart->pid == 0) {
		setrlimit(RLIMIT_CORE, &none);
		running = seed;
		signal(SIGQUIT, say_where);
		run(seed);
		_exit(0);
	}
}

/* true: it has ended; well or badly. */
static bool has_ended(struct apart *apart, uint64_t *bad)
{
	int status = 0;

	if (now_ms() > apart->until) {
		fprintf(stderr, "wild: seed %llu: hangs\n", (unsigned long long)apart->seed);
		kill(apart->pid, SIGQUIT);
		waitpid(apart->pid, &status, 0);
	} else if (waitpid(apart->pid, &status, WNOHANG) == 0) {
		return false;
	}
	if (status)
		fprintf(stderr, "wild: seed %llu: status %#x\n", (unsigned long long)apart->seed, (unsigned)status);
	*bad += status != 0;
	apart->pid = 0;
	return true;
}

static void tell_progress(uint64_t runs, uint64_t bad, int64_t begin)
{
	fprintf(stderr, "# %llu runs begun in %lld s; %llu crashed, hung or wrong\n", (unsigned long long)runs,
	        (long long)(now_ms() - begin) / 1000, (unsigned long long)bad);
}

/* Starts runs while it may, some at a time, and ends when all have. until: of the short form; else as many as runs. */
static void run_all(uint64_t seed, uint64_t *runs, int64_t until, uint64_t *bad)
{
	struct apart apart[AT_A_TIME] = { { 0 } };
	uint64_t most = *runs, busy = 0, max_bad = until == INT64_MAX ? UINT64_MAX : MAX_BAD;
	int64_t begin = now_ms();
	bool more = true;

	*runs = 0;
	do {
		for (int i = 0; i < AT_A_TIME; i++) {
			more = *bad < max_bad && *runs < most && now_ms() < until;
			if (!apart[i].pid && more) {
				start_apart(&apart[i], seed + (*runs)++);
				busy++;
				if (*runs % TOLD_RUNS == 0)
					tell_progress(*runs, *bad, begin);
			}
			if (apart[i].pid && has_ended(&apart[i], bad))
				busy--;
		}
		poll(NULL, 0, 1);
	} while (busy || more);
}

/* Each kind of target has to have had its share, or the runs say nothing about it. */
static bool print_hits(void)
{
	unsigned long all = 0;
	bool enough = true;

	for (int i = 0; i < VANDAL_KINDS; i++)
		all += hits->writes[i];
	printf("# %lu wild writes:", all);
	for (int i = 0; i < VANDAL_KINDS; i++) {
		printf(" %s %.1f %%%s", vandal_kind_names[i], 100.0 * (double)hits->writes[i] / (double)(all ? all : 1),
		       i < VANDAL_KINDS - 1 ? "," : "\n");
		enough &= hits->writes[i] * 20 >= all;
	}
	return enough;
}

int main(int argc, char **argv)
{
	bool full = argc > 1 && strcmp(argv[1], "full") == 0, enough;
	const char *only = getenv("CRASH_SEED"), *more = getenv("CRASH_RUNS");
	uint64_t seed = only ? strtoull(only, NULL, 0) : (uint64_t)time(NULL) * 100000, bad = 0;
	uint64_t runs = more ? strtoull(more, NULL, 0) : only ? 1 : full ? FULL_RUNS : UINT64_MAX;

	tally = shared_memory(sizeof *tally);
	hits = shared_memory(sizeof *hits);
	run_all(seed, &runs, only || more || full ? INT64_MAX : now_ms() + SHORT_MS, &bad);
	enough = print_hits() || only;
	printf("# innocent tasks:");
	for (int i = 0; i < COUNTS; i++)
		printf(" %s %lu%s", count_names[i], tally->counts[i], i < COUNTS - 1 ? "," : "\n");
	printf("%llu runs from seed %llu; %llu crashed, hung or wrong%s\n", (unsigned long long)runs,
	       (unsigned long long)seed, (unsigned long long)bad,
	       enough ? "" : "; some kinds of writes had less than 5 %");
	return bad || !enough;
}
