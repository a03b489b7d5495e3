/* SPDX-License-Identifier: MIT */
/* What the long form says while it runs, and what is kept of a failure. */
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include "../stage.h"
#include "../support_leftovers.h"
#include "hostile.h"

#define TOLD      1000
#define PROCESSES 16

static unsigned seed;
static int64_t begin;
static int failures;

int hostile_failures(void) { return failures; }

void hostile_begin(unsigned seed_)
{
	seed = seed_;
	begin = now_ms();
	printf("# CRASH_SEED=%u\n", seed);
}

void hostile_tell(const char *what, int done, int all)
{
	if (hostile_is_full() && (done % TOLD == 0 || done == all))
		fprintf(stderr, "# %s: %d of %d after %lld s, %d failed\n", what, done, all,
		        (long long)(now_ms() - begin) / 1000, failures);
}

static void say_state(pid_t pid)
{
	char path[64], text[128];
	FILE *file;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	file = fopen(path, "r");
	if (!file)
		return;
	if (fgets(text, sizeof text, file))
		fprintf(stderr, "# left: %.*s\n", (int)strcspn(text, "\n"), text);
	fclose(file);
}

/* What there is, the application included, which goes first. */
static void end_the_rest(void)
{
	pid_t pids[PROCESSES];
	size_t n = support_pool_processes(pids, PROCESSES);

	for (size_t i = 0; i < n; i++)
		say_state(pids[i]);
	for (size_t i = 0; i < n; i++)
		kill(pids[i], SIGKILL);
}

void hostile_failed(const char *format, ...)
{
	char text[700];
	va_list list;

	failures++;
	va_start(list, format);
	vsnprintf(text, sizeof text, format, list);
	va_end(list);
	fprintf(stderr, "# CRASH_SEED=%u: %s\n", seed, text);
	end_the_rest();
	app_until_processes(0);
	if (!hostile_is_full())
		ck_abort_msg("%s", text);
}

bool hostile_all_go(void)
{
	int64_t end = now_ms() + SUPPORT_GUARD_MS;
	pid_t pids[PROCESSES];

	while (support_pool_processes(pids, PROCESSES)) {
		if (now_ms() > end)
			return false;
		poll(NULL, 0, 1);
	}
	return true;
}

void hostile_end_if_stuck(const struct app *app)
{
	int64_t end = now_ms() + SUPPORT_GUARD_MS;
	siginfo_t info = { .si_pid = 0 };

	while (waitid(P_PID, (id_t)app->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && !info.si_pid) {
		if (now_ms() > end) {
			fprintf(stderr, "# stuck\n");
			end_the_rest();
			return;
		}
		poll(NULL, 0, 1);
	}
}
