/* SPDX-License-Identifier: MIT */
/*
 * Futures at a glance: four tasks on three worker processes.
 *
 * Each task sleeps 0.5 to 2 seconds; Task2 and Task4 fail half of the time; with --crash, Task3 dereferences NULL, and
 * all that this costs is its own result. A callback tells of each future when it is done, the main loop polls until
 * it has all of them, and as_completed walks over what is left.
 *
 * The parent draws the lots and not the tasks: workers are copies of one process, and each would draw the same numbers.
 */
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <procpool.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TASKS  4

struct job {
	char   name[16];
	double seconds;
	bool   fails;
	bool   crashes;
};

struct settings {
	long seed;
	bool crash;
};

/*
 * Prints at once, for what a worker has in its buffer when it crashes is lost. stdout is fully buffered, so each call
 * is one write(2), and the lines of several processes do not mix.
 */
static void say(const char *format, ...) PP_FORMAT(1, 2);
static void say(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	fflush(stdout);
}

/* ------------------------------------------------------------------ in the workers */

static void take_a_nap(double seconds)
{
	struct timespec left = { .tv_sec = (time_t)seconds };

	left.tv_nsec = (long)((seconds - (double)left.tv_sec) * 1e9);
	while (nanosleep(&left, &left) < 0 && errno == EINTR)
		continue;
}

/* Volatile twice: the compiler must not see that the pointer is NULL, nor that nobody reads what is stored. */
static void crash(void)
{
	volatile int *volatile nowhere = NULL;

	*nowhere = 1;
}

static int work(pp_task *task, const void *data, size_t size)
{
	const struct job *job = data;
	char result[32];

	if (size != sizeof *job)
		return pp_raise(task, EINVAL, "Not a job!");
	say("[%s] Starting, will take %.2fs\n", job->name, job->seconds);
	take_a_nap(job->seconds);
	if (job->crashes)
		crash();
	if (job->fails)
		return pp_raise(task, 1, "Task %s failed randomly!", job->name);
	say("[%s] Finished\n", job->name);
	snprintf(result, sizeof result, "%s result", job->name);
	return pp_return(task, result, strlen(result));
}

/* ------------------------------------------------------------------ in the parent */

/* What the task says of itself when it raised an error, and what the pool says of it when it could not. */
static void tell(const char *on_result, const char *on_exception, const pp_outcome *outcome)
{
	char text[512];

	if (outcome->kind == PP_RETURNED) {
		say("%s%.*s\n", on_result, (int)outcome->size, (const char *)outcome->data);
	} else if (outcome->kind == PP_RAISED) {
		say("%s%s\n", on_exception, outcome->message);
	} else {
		pp_outcome_describe(outcome, text, sizeof text);
		say("%s%s\n", on_exception, text);
	}
}

/* Runs in the dispatcher thread of the executor, beside the main loop. */
static void when_done(pp_future *future, void *context)
{
	const pp_outcome *outcome;

	(void)context;
	if (pp_future_result(future, 0, &outcome) == 0)
		tell("[Callback] Result: ", "[Callback] Task raised exception: ", outcome);
}

static struct job make_job(int index, bool crash_wanted)
{
	struct job job = { .seconds = 0.5 + 1.5 * drand48() };
	bool unlucky = drand48() < 0.5;

	snprintf(job.name, sizeof job.name, "Task%d", index + 1);
	job.fails = unlucky && (index == 1 || index == 3);
	job.crashes = crash_wanted && index == 2;
	return job;
}

static int submit_job(pp_executor *executor, const struct job *job, pp_future **future)
{
	pp_task_options options = PP_TASK_OPTIONS_INIT;
	int rc;

	options.name = job->name;
	rc = pp_submit_with(executor, &options, work, job, sizeof *job, future);
	if (rc < 0)
		return rc;
	return pp_future_add_done_callback(*future, when_done, NULL);
}

static int submit_all(pp_executor *executor, const struct settings *settings, pp_future **futures)
{
	for (int i = 0; i < TASKS; i++) {
		struct job job = make_job(i, settings->crash);
		int rc = submit_job(executor, &job, &futures[i]);

		if (rc < 0) {
			fprintf(stderr, "futures: cannot submit %s: %s\n", job.name, pp_strerror(rc));
			return rc;
		}
	}
	return 0;
}

/* Gives up the futures that are done, and leaves NULL in their places. Returns how many there were. */
static int collect(pp_future **futures)
{
	const pp_outcome *outcome;
	int collected = 0;

	for (int i = 0; i < TASKS; i++) {
		if (!pp_future_done(futures[i]) || pp_future_result(futures[i], 0, &outcome) < 0)
			continue;
		tell("[Main Loop] Got result: ", "[Main Loop] Got exception: ", outcome);
		pp_future_free(futures[i]);
		futures[i] = NULL;
		collected++;
	}
	return collected;
}

static void poll_all(pp_future **futures)
{
	say("\nPolling futures for completion...\n");
	for (int left = TASKS; left > 0; left -= collect(futures))
		take_a_nap(0.1);
}

/* NULL has no place in the walk, so one over futures that were all collected ends at once. */
static int process_remaining(pp_future **futures)
{
	const pp_outcome *outcome;
	pp_future *future;
	pp_walk *walk;
	int rc;

	say("\nUsing as_completed to process remaining futures (should be empty now):\n");
	rc = pp_as_completed(futures, TASKS, PP_FOREVER, &walk);
	if (rc < 0)
		return rc;
	while ((rc = pp_walk_next(walk, &future)) > 0)
		if (pp_future_result(future, 0, &outcome) == 0)
			tell("Result: ", "Exception: ", outcome);
	pp_walk_free(walk);
	return rc;
}

static int run(pp_executor *executor, const struct settings *settings)
{
	pp_future *futures[TASKS] = { NULL };
	int rc = submit_all(executor, settings, futures);

	if (rc == 0) {
		poll_all(futures);
		rc = process_remaining(futures);
	}
	for (int i = 0; i < TASKS; i++)
		pp_future_free(futures[i]);
	return rc;
}

/* ------------------------------------------------------------------ the command line */

static const char usage[] =
	"usage: futures [--crash] [--seed N]\n"
	"Runs four tasks on three worker processes and tells what became of them.\n"
	"  --crash   Task3 dereferences NULL\n"
	"  --seed N  the same times and failures at every run\n"
	"  --help    this text\n";

static int misused(void)
{
	fputs(usage, stderr);
	return 2;
}

static int parse_seed(const char *text, long *seed)
{
	char *end;

	errno = 0;
	*seed = strtol(text, &end, 10);
	return errno || *end || !isdigit((unsigned char)*text) ? -EINVAL : 0;
}

/* -1: go on; else the exit status. */
static int parse(int argc, char **argv, struct settings *settings)
{
	static const struct option options[] = {
		{ "crash", no_argument,       NULL, 'c' },
		{ "seed",  required_argument, NULL, 's' },
		{ "help",  no_argument,       NULL, 'h' },
		{ NULL,    0,                 NULL, 0   }
	};

	for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		if (option == 'c')
			settings->crash = true;
		else if (option == 'h')
			return fputs(usage, stdout) < 0;
		else if (option != 's' || parse_seed(optarg, &settings->seed) < 0)
			return misused();
	}
	return optind < argc ? misused() : -1;
}

int main(int argc, char **argv)
{
	struct settings settings = { .seed = (long)time(NULL) ^ getpid() };
	pp_options options = PP_OPTIONS_INIT;
	pp_executor *executor;
	int rc = parse(argc, argv, &settings);

	if (rc >= 0)
		return rc;
	srand48(settings.seed);
	setvbuf(stdout, NULL, _IOFBF, BUFSIZ);
	options.max_workers = 3;
	rc = pp_executor_create(&executor, &options);
	if (rc < 0) {
		fprintf(stderr, "futures: cannot create the executor: %s\n", pp_strerror(rc));
		return 1;
	}
	rc = run(executor, &settings);
	pp_executor_free(executor);
	if (rc < 0)
		fprintf(stderr, "futures: %s\n", pp_strerror(rc));
	return rc < 0 || ferror(stdout);
}
