/* SPDX-License-Identifier: MIT */
/*
 * Failing system calls: each call of interpose.h, in each role, fails with each of its errnos, once at its N-th time for
 * every N and for ever from its N-th time on, while an application creates an executor, submits, has a task crash, and
 * shuts down. Every call of the library then says one of the errors that procpool.h has for it, or does all it should;
 * every future ends in a way that its task or the failure accounts for; nothing is left over and nothing hangs.
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../app.h"
#include "../stage.h"
#include "../support_leftovers.h"
#include "dump.h"
#include "interpose.h"

#define ABREAST     8
#define POLL_US     2000
#define HANG_S      15
#define WAIT_MS     10000
#define MEDIUM      6000u
#define LARGE       (300u << 10)
#define SHORT_MS    2500         /* for each configuration; CRASH_FULL tries all, CRASH_MS for so long */

/* From here on only powers of two and the last one: it is a loop over slots. */
#define MANY        64

struct config { const char *name; unsigned flags; bool old_kernel; };
static const struct config configs[] = {
	{ "default", 0, false },
	{ "self-dispatch", PP_SELF_DISPATCH | PP_MEMFD_ONLY, false },
	{ "start-all", PP_START_ALL | PP_SHM_ONLY, false },
	{ "old kernel", PP_START_ALL, true },
};

struct trial { const struct config *config; struct failure failure; bool counts_only; };

static pp_executor *executor;
static const char *at = "start";
static const struct trial *current;
static atomic_int callbacks;
static unsigned char *medium, *large;

static void on_hang(int signal)
{
	(void)signal;
	fprintf(stderr, "# hangs in %s\n", at);
	dump_executor(executor);
	app_failed(__FILE__, __LINE__, at);
}

static void on_done(pp_future *future, void *context)
{
	(void)future;
	(void)context;
	callbacks++;
}

static void on_log(int level, const char *text, void *context)
{
	(void)level;
	(void)text;
	(void)context;
}

static bool is_among(int rc, const int *errors)
{
	for (; *errors; errors++)
		if (rc == -*errors)
			return true;
	return false;
}

#define AMONG(rc, ...) is_among(rc, (const int[]){ __VA_ARGS__, 0 })

static int task_raise_data(pp_task *task, const void *data, size_t size)
{
	return pp_raise_data(task, 9, data, size, "on purpose");
}

enum { SMALL_ECHO, EXTENSION_ECHO, MEDIUM_ECHO, LARGE_ECHO, RAISE, SEGV, KILL, CANCEL, TASKS };

static int submit(int which, pp_future **future)
{
	static const int ways[] = { [SEGV] = DIE_SEGV, [KILL] = DIE_KILL };
	pp_task_options options = PP_TASK_OPTIONS_INIT;

	options.name = "a task with a name that is not the shortest one";
	switch (which) {
	case SMALL_ECHO: return pp_submit(executor, task_echo, "small", 5, future);
	case EXTENSION_ECHO: return pp_submit_with(executor, &options, task_echo, medium, 200, future);
	case MEDIUM_ECHO: return pp_submit(executor, task_echo, medium, MEDIUM, future);
	case LARGE_ECHO: return pp_submit(executor, task_echo, large, LARGE, future);
	case RAISE: return pp_submit(executor, task_raise_data, medium, MEDIUM, future);
	case SEGV: case KILL: return pp_submit(executor, task_die, &ways[which], sizeof(int), future);
	default: return pp_submit(executor, task_nothing, NULL, 0, future);
	}
}

/* A failure that does not last is never a reason to break the pool: the next attempt would do. */
static bool may_break(void)
{
	return !current->counts_only && current->failure.for_ever;
}

static bool is_right(int which, const pp_outcome *o)
{
	static const struct { const void *const *data; size_t size; } echoes[] = {
		[EXTENSION_ECHO] = { (const void *const *)&medium, 200 },
		[MEDIUM_ECHO] = { (const void *const *)&medium, MEDIUM },
		[LARGE_ECHO] = { (const void *const *)&large, LARGE },
	};

	if (o->kind == PP_BROKEN)
		return may_break() && o->code < 0 && *o->message;
	if (o->kind == PP_RAISED && which <= LARGE_ECHO)
		return !current->counts_only && AMONG(o->code, ENOMEM, ENOSPC);
	switch (which) {
	case SMALL_ECHO: return o->kind == PP_RETURNED && o->size == 5 && memcmp(o->data, "small", 5) == 0;
	case EXTENSION_ECHO: case MEDIUM_ECHO: case LARGE_ECHO:
		return o->kind == PP_RETURNED && o->size == echoes[which].size
		       && memcmp(o->data, *echoes[which].data, o->size) == 0;
	case RAISE:
		return o->kind == PP_RAISED && o->code == 9 && (o->size == MEDIUM || !current->counts_only);
	case SEGV: return o->kind == PP_CRASHED && o->signal == SIGSEGV;
	case KILL: return o->kind == PP_CRASHED && o->signal == SIGKILL;
	default: return o->kind == PP_CANCELLED || o->kind == PP_RETURNED;
	}
}

static void look_at(int which, pp_future *future)
{
	const pp_outcome *o;
	char text[256];
	int rc = pp_future_result(future, WAIT_MS, &o);

	if (rc == -ENOMEM)               /* asked again, it is there: the future keeps its end */
		rc = pp_future_result(future, WAIT_MS, &o);
	APP_CHECK(rc == 0 || (rc == -ENOMEM && may_break()));
	if (rc == 0 && !is_right(which, o)) {
		pp_outcome_describe(o, text, sizeof text);
		fprintf(stderr, "# task %d: %s\n", which, text);
		app_failed(__FILE__, __LINE__, "the outcome is wrong");
	}
}

static void walk(pp_future **futures)
{
	pp_future *next;
	pp_walk *w;
	int rc = pp_as_completed(futures, TASKS, WAIT_MS, &w);

	APP_CHECK(rc == 0 || rc == -ENOMEM);
	if (rc == 0)
		while ((rc = pp_walk_next(w, &next)) == 1)
			;
	APP_CHECK(rc == 0 || rc == -ENOMEM);
	pp_walk_free(w);
}

static void use(void)
{
	pp_future *futures[TASKS] = { NULL };
	int rc, called_back = 0;

	for (int i = 0; i < TASKS; i++) {
		at = "submit";
		rc = submit(i, &futures[i]);
		APP_CHECK(rc == 0 || AMONG(rc, ENOMEM, ENOSPC, EPIPE));
		APP_CHECK((rc == 0) == (futures[i] != NULL));
		if (!futures[i] || i > MEDIUM_ECHO)
			continue;
		rc = pp_future_add_done_callback(futures[i], on_done, NULL);
		APP_CHECK(rc == 0 || AMONG(rc, ENOMEM, EAGAIN));
		called_back += rc == 0;
	}
	at = "cancel";
	pp_future_cancel(futures[CANCEL]);
	at = "walk";
	walk(futures);
	at = "wait";
	rc = pp_wait(futures, TASKS, PP_ALL_COMPLETED, WAIT_MS);
	APP_CHECK(rc >= 0 || rc == -ENOMEM);
	at = "result";
	for (int i = 0; i < TASKS; i++)
		if (futures[i])
			look_at(i, futures[i]);
	at = "shutdown";
	rc = pp_executor_shutdown(executor, PP_SHUTDOWN_WAIT, WAIT_MS);
	APP_CHECK(rc == 0);
	APP_CHECK(callbacks == called_back);
	for (int i = 0; i < TASKS; i++)
		pp_future_free(futures[i]);
	at = "free";
	pp_executor_free(executor);
}

static int application(void *trial_)
{
	const struct trial *trial = current = trial_;
	pp_options options = support_options(2);
	struct census before = leftovers_count();
	int rc;

	before.files = INT_MAX;          /* those of trials beside this one come and go; the test looks at its end */
	options.flags = trial->config->flags;
	options.log = on_log;
	signal(SIGALRM, on_hang);
	alarm(HANG_S);
	interpose_begin(trial->counts_only ? NULL : &trial->failure);
	at = "create";
	rc = pp_executor_create(&executor, &options);
	APP_CHECK(rc == 0 || AMONG(rc, ENOMEM, ENOSPC, EFBIG, EMFILE, ENFILE, EAGAIN, ECANCELED, EPIPE));
	APP_CHECK((rc == 0) == (executor != NULL));
	if (rc == 0)
		use();
	interpose_end();
	APP_CHECK(rc == 0 || !trial->counts_only);
	APP_CHECK(interpose_blocks() == 0);
	/* What may be a file of the application's by now, for all that fstat says, is left open. */
	if (trial->failure.call == CALL_fstat && (unsigned)(leftovers_count().fds - before.fds) <= 2)
		before.fds = leftovers_count().fds;
	APP_CHECK(leftovers_none(before));
	return 0;
}

struct trials { struct trial *list; size_t count, room; };

static void add(struct trials *trials, struct trial trial)
{
	if (trials->count == trials->room) {
		trials->room = trials->room ? 2 * trials->room : 1024;
		trials->list = realloc(trials->list, trials->room * sizeof *trials->list);
		ck_assert_ptr_nonnull(trials->list);
	}
	trials->list[trials->count++] = trial;
}

/* Everything that can fail in this configuration, as often as it is called when nothing fails. */
static struct trials make_trials(const struct config *config)
{
	struct trials trials = { NULL };
	struct trial t = { .config = config };
	const char *only = getenv("CRASH_ONLY");         /* a call's name */

	for (int i = 0; i < CALLS * ROLES; i++) {
		if (only && strcmp(only, call_about[i / ROLES].name) != 0)
			continue;
		t.failure = (struct failure){ .call = (enum call)(i / ROLES), .role = (enum role)(i % ROLES) };
		long count = interpose_count(t.failure.call, t.failure.role);
		for (long n = 1; n <= count; n = n < MANY || n >= count ? n + 1 : 2 * n < count ? 2 * n : count) {
			const struct call_about *about = &call_about[t.failure.call];
			t.failure.n = n;
			for (int twice = 0; twice < 2; twice++)
				for (const int *e = about->errors; *e; e++) {
					t.failure.for_ever = twice;
					t.failure.error = *e;
					add(&trials, t);
				}
			t.failure.for_ever = false;
			for (const int *e = about->once; *e; e++) {
				t.failure.error = *e;
				add(&trials, t);
			}
		}
	}
	return trials;
}

/* In an order that is the seed's, but with every call's first time before all others. */
static void shuffle(struct trials *trials, unsigned seed)
{
	size_t first = 0;

	srand(seed);
	for (size_t i = trials->count; i > 1; i--) {
		size_t other = (size_t)rand() % i;
		struct trial t = trials->list[i - 1];
		trials->list[i - 1] = trials->list[other];
		trials->list[other] = t;
	}
	for (size_t i = 0; i < trials->count; i++)
		if (trials->list[i].failure.n == 1) {
			struct trial t = trials->list[first];
			trials->list[first++] = trials->list[i];
			trials->list[i] = t;
		}
}

static bool look_back(struct app *app, const struct trial *trial)
{
	const struct failure *f = &trial->failure;
	char report[512];
	int status = app_wait_report(app, report, sizeof report);

	if (status == 0)
		return true;
	printf("# %s: %s, %ld. time in the %s%s: %s: status 0x%x: %s\n", trial->config->name, call_about[f->call].name, f->n,
	       role_names[f->role], f->for_ever ? " and ever after" : "", strerrorname_np(f->error), (unsigned)status,
	       report);
	return false;
}

/* Leaves it to be reaped. */
static bool has_ended(const struct app *app)
{
	siginfo_t info = { .si_pid = 0 };

	return waitid(P_PID, (id_t)app->pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid;
}

static void start(struct app *app, const struct trial *trial)
{
	interpose_prepare();
	interpose_old_kernel(trial->config->old_kernel);
	app_start(app, application, (void *)trial);
}

/* Several at a time, because most of a trial is waiting. What still runs at the deadline is ended and not counted: some
 * failures last for seconds. Returns how many failed. */
static size_t run(const struct trials *trials, int64_t deadline, size_t *tried)
{
	struct app apps[ABREAST] = { { 0 } };
	const struct trial *of[ABREAST];
	size_t failed = 0, next = 0, busy = 0;

	for (*tried = 0; now_ms() < deadline && (busy || next < trials->count); usleep(POLL_US))
		for (size_t i = 0; i < ABREAST; i++) {
			if (apps[i].pid && has_ended(&apps[i])) {
				failed += !look_back(&apps[i], of[i]);
				apps[i].pid = 0;
				busy--;
				*tried += 1;
			}
			if (!apps[i].pid && next < trials->count) {
				of[i] = &trials->list[next++];
				start(&apps[i], of[i]);
				busy++;
			}
		}
	for (size_t i = 0; i < ABREAST; i++)
		if (apps[i].pid) {
			kill(apps[i].pid, SIGKILL);
			app_wait(&apps[i]);
		}
	app_until_processes(0);
	return failed;
}

START_TEST(failing_calls)
{
	const char *seed_text = getenv("CRASH_SEED"), *ms_text = getenv("CRASH_MS");
	unsigned seed = seed_text ? (unsigned)strtoul(seed_text, NULL, 0) : (unsigned)now_ms();
	struct trial first = { .config = &configs[_i], .counts_only = true };
	int64_t begin = now_ms();
	struct trials trials;
	size_t tried, failed;
	struct app app;

	medium = malloc(MEDIUM);
	large = malloc(LARGE);
	ck_assert(medium && large);
	memset(medium, 'm', MEDIUM);
	memset(large, 'l', LARGE);
	start(&app, &first);
	app_finish(&app);
	trials = make_trials(&configs[_i]);
	shuffle(&trials, seed);
	failed = run(&trials, getenv("CRASH_FULL") ? INT64_MAX : begin + (ms_text ? atol(ms_text) : SHORT_MS), &tried);
	printf("# failing calls, %s: %zu of %zu failures tried in %.1f s, %zu wrong; CRASH_SEED=%u\n", configs[_i].name, tried,
	       trials.count, (double)(now_ms() - begin) / 1000, failed, seed);
	fflush(stdout);
	free(trials.list);
	free(medium);
	free(large);
	ck_assert_uint_eq(failed, 0);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("calls");
	TCase *calls = support_tcase(suite, "calls");

	tcase_set_timeout(calls, getenv("CRASH_FULL") || getenv("CRASH_MS") ? 36000 : 120);
	if (app_tests_can_run())
		tcase_add_loop_test(calls, failing_calls, 0, sizeof configs / sizeof *configs);
	else
		support_skip("failing_calls", "needs Check's fork mode");
	return suite;
}

SUPPORT_MAIN(make_suite)
