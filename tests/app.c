/* SPDX-License-Identifier: MIT */
/* Applications in processes of their own; see app.h. */
#include "app.h"
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "support.h"

#define READY '!'

static int report_fd = -1;       /* in the application */

void app_start(struct app *app, app_fn *fn, void *context)
{
	int fds[2];

	ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
	app->pid = fork();
	ck_assert_int_ge(app->pid, 0);
	if (app->pid == 0) {
		close(fds[0]);
		report_fd = fds[1];
		signal(SIGTERM, SIG_DFL);        /* Check's handlers would end the test */
		signal(SIGINT, SIG_DFL);
		_exit(fn(context));
	}
	close(fds[1]);
	app->reports = fds[0];
}

static void report(const char *text, size_t size)
{
	ssize_t n = write(report_fd, text, size);

	(void)n;
}

void app_ready(void)
{
	report((const char[]){ READY }, 1);
}

int app_stay(void)
{
	app_ready();
	for (;;)
		pause();
	return 0;
}

void app_failed(const char *file, int line, const char *what)
{
	char text[512];
	int n = snprintf(text, sizeof text, "%s:%d: %s (errno %d)", file, line, what, errno);

	report(text, n < (int)sizeof text ? (size_t)n : sizeof text - 1);
	_exit(1);
}

void app_check_task(pp_executor *ex, pp_fn *fn, const void *data, size_t size, int kind)
{
	const pp_outcome *outcome;
	pp_future *future;

	APP_CHECK(pp_submit(ex, fn, data, size, &future) == 0);
	APP_CHECK(pp_future_result(future, SUPPORT_GUARD_MS, &outcome) == 0);
	APP_CHECK(outcome->kind == kind);
	APP_CHECK(kind != PP_RETURNED || (outcome->size == size && memcmp(outcome->data, data, size) == 0));
	pp_future_free(future);
}

/* A number of its own for each process: those of other tests, and of what init has not reaped yet, would count, too. Hardly any
 * system has so many users that one of them has it, and a container with 65536 numbers has them all. */
void app_limit_processes(rlim_t most)
{
	uid_t id = 20000 + (uid_t)getpid() % 40000;

	APP_CHECK(setgroups(0, NULL) == 0);
	APP_CHECK(setrlimit(RLIMIT_NPROC, &(struct rlimit){ most, most }) == 0);
	APP_CHECK(setresgid(id, id, id) == 0);
	APP_CHECK(setresuid(id, id, id) == 0);
}

/* What has been reported so far. Its children may hold the pipe, so its end is not waited for. */
static void read_report(struct app *app, char *text, size_t size)
{
	struct pollfd fd = { .fd = app->reports, .events = POLLIN };
	size_t used = 0;
	ssize_t n;

	while (used < size - 1 && poll(&fd, 1, 0) == 1 && (n = read(app->reports, text + used, size - 1 - used)) > 0)
		used += (size_t)n;
	text[used] = 0;
}

void app_await_ready(struct app *app)
{
	struct pollfd fd = { .fd = app->reports, .events = POLLIN };
	char text[512] = "";

	ck_assert_msg(poll(&fd, 1, (int)SUPPORT_GUARD_MS) == 1, "the application does not report");
	ck_assert_int_ge(read(app->reports, text, 1), 0);
	if (*text != READY)
		read_report(app, text + strlen(text), sizeof text - strlen(text));
	ck_assert_msg(*text == READY, "the application failed: %s", text);
}

struct ending { pid_t pid; int status; };

static bool has_ended(void *ending_)
{
	struct ending *ending = ending_;

	return waitpid(ending->pid, &ending->status, WNOHANG) == ending->pid;
}

static int await_end(struct app *app)
{
	struct ending ending = { .pid = app->pid };

	support_until(has_ended, &ending, "the end of the application");
	return ending.status;
}

int app_wait(struct app *app)
{
	int status = await_end(app);

	close(app->reports);
	return status;
}

int app_wait_report(struct app *app, char *text, size_t size)
{
	int status = await_end(app);

	read_report(app, text, size);
	close(app->reports);
	return status;
}

void app_finish(struct app *app)
{
	char text[512];
	int status = app_wait_report(app, text, sizeof text);

	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the application ended with 0x%x: %s", status, text);
}

void app_kill(struct app *app)
{
	int status;

	ck_assert_int_eq(kill(app->pid, SIGKILL), 0);
	status = app_wait(app);
	ck_assert(WIFSIGNALED(status));
	ck_assert_int_eq(WTERMSIG(status), SIGKILL);
}

void app_run(app_fn *fn, void *context)
{
	struct app app;

	app_start(&app, fn, context);
	app_finish(&app);
}

static bool is_process_count(void *n)
{
	pid_t pids[64];

	return support_pool_processes(pids, 64) == *(size_t *)n;
}

void app_until_processes(size_t n)
{
	support_until(is_process_count, &n, "only so many processes");
}

bool app_tests_can_run(void)
{
	const char *mode = getenv("CK_FORK");

	return !mode || strcmp(mode, "no") != 0;
}
