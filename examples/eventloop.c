/* SPDX-License-Identifier: MIT */
/*
 * A pool in an event loop: lines in on stdin, the same lines in upper case out on stdout, in the order in which their
 * tasks end. A line "crash" crashes its task, and that one only.
 *
 * One thread and no wait but epoll_wait: the pool is one more descriptor, and callbacks run where the loop calls
 * pp_executor_dispatch. Submitting never waits either: when max_pending is reached, stdin is left alone until the pool
 * has room again. (Writing may wait; a loop that serves more than one peer would have to watch its outputs, too.)
 *
 * epoll refuses regular files, since they are always readable; then the loop reads on without asking.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <procpool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define MAX_PENDING  64
#define CHUNK        65536

struct loop {
	pp_executor *executor;
	int          epoll;
	int          pool_fd;
	bool         pollable;           /* epoll takes stdin */
	bool         watched;            /* stdin is in the epoll set */
	bool         open;               /* stdin is not at its end */
	bool         full;               /* a line waits until the pool has room */
	size_t       in_flight;          /* callbacks to come */
	uint64_t     lines;              /* submitted */
	char        *buffer;
	size_t       capacity;
	size_t       begin;              /* of the first line that is not submitted */
	size_t       scanned;            /* no newline between begin and here */
	size_t       end;
};

/* The functions of the loop return 0, or this, once the reason is told. */
static int failed(const char *what, const char *why)
{
	fprintf(stderr, "eventloop: %s: %s\n", what, why);
	return -1;
}

/* ------------------------------------------------------------------ in the workers */

/* Volatile twice: the compiler must not see that the pointer is NULL, nor that nobody reads what is stored. */
static void crash(void)
{
	volatile int *volatile nowhere = NULL;

	*nowhere = 1;
}

static int upper(pp_task *task, const void *data, size_t size)
{
	const char *line = data;
	char *result;
	int rc;

	if (size == 5 && memcmp(line, "crash", 5) == 0)
		crash();
	result = malloc(size + 1);
	if (!result)
		return pp_raise(task, ENOMEM, "%s", strerror(ENOMEM));
	for (size_t i = 0; i < size; i++)
		result[i] = line[i] >= 'a' && line[i] <= 'z' ? (char)(line[i] - 'a' + 'A') : line[i];
	result[size] = '\n';
	rc = pp_return(task, result, size + 1);
	free(result);
	return rc;
}

/* ------------------------------------------------------------------ lines to tasks */

/* Runs in pp_executor_dispatch, and so in the thread of the loop. */
static void finished(pp_future *future, void *context)
{
	struct loop *loop = context;
	const pp_outcome *outcome;
	char text[512];

	loop->in_flight--;
	if (pp_future_result(future, 0, &outcome) == 0) {
		if (outcome->kind == PP_RETURNED) {
			fwrite(outcome->data, 1, outcome->size, stdout);
		} else {
			pp_outcome_describe(outcome, text, sizeof text);
			fprintf(stderr, "%s: %s\n", outcome->kind == PP_CRASHED ? "crash" : "failed", text);
		}
	}
	pp_future_free(future);
}

/* In self-dispatch mode a callback that is added late is not missed, since none runs before the next dispatch. */
static int submit_line(struct loop *loop, const char *line, size_t size)
{
	pp_task_options options = PP_TASK_OPTIONS_INIT;
	pp_future *future;
	char name[32];
	int rc;

	snprintf(name, sizeof name, "line %ju", (uintmax_t)loop->lines + 1);
	options.name = name;
	options.submit_timeout_ms = PP_NONE;
	rc = pp_submit_with(loop->executor, &options, upper, line, size, &future);
	if (rc < 0)
		return rc;
	rc = pp_future_add_done_callback(future, finished, loop);
	if (rc < 0) {
		pp_future_free(future);
		return rc;
	}
	loop->lines++;
	loop->in_flight++;
	return 0;
}

/* Room comes back with the tasks that end, so as long as some run it is only a matter of time. */
static bool is_full(const struct loop *loop, int error)
{
	return loop->in_flight && (error == -EAGAIN || error == -ENOSPC || error == -ENOMEM);
}

/* Submits the lines that are complete, as far as the pool has room. */
static int submit_lines(struct loop *loop)
{
	char *newline;

	loop->full = false;
	while ((newline = memchr(loop->buffer + loop->scanned, '\n', loop->end - loop->scanned))) {
		char *line = loop->buffer + loop->begin;
		int rc = submit_line(loop, line, (size_t)(newline - line));

		if (is_full(loop, rc)) {
			loop->full = true;
			return 0;
		}
		if (rc < 0)
			return failed("cannot submit", pp_strerror(rc));
		loop->begin = loop->scanned = (size_t)(newline + 1 - loop->buffer);
	}
	loop->scanned = loop->end;
	return 0;
}

/* ------------------------------------------------------------------ stdin to lines */

/* A line may be as long as memory allows. */
static int make_room(struct loop *loop)
{
	char *buffer;

	if (loop->begin) {
		memmove(loop->buffer, loop->buffer + loop->begin, loop->end - loop->begin);
		loop->scanned -= loop->begin;
		loop->end -= loop->begin;
		loop->begin = 0;
	}
	if (loop->capacity - loop->end >= CHUNK)
		return 0;
	buffer = realloc(loop->buffer, 2 * loop->capacity + CHUNK);
	if (!buffer)
		return failed("cannot hold the line", strerror(ENOMEM));
	loop->buffer = buffer;
	loop->capacity = 2 * loop->capacity + CHUNK;
	return 0;
}

/* A last line without a newline gets one: make_room has left room for it. */
static void end_input(struct loop *loop)
{
	loop->open = false;
	if (loop->end > loop->begin)
		loop->buffer[loop->end++] = '\n';
}

/* One read for each time that epoll says so, and it does not wait: stdin keeps the mode that others may rely on. */
static int read_input(struct loop *loop)
{
	ssize_t n;

	if (make_room(loop) < 0)
		return -1;
	n = read(STDIN_FILENO, loop->buffer + loop->end, CHUNK);
	if (n < 0)
		return errno == EINTR || errno == EAGAIN ? 0 : failed("stdin", strerror(errno));
	if (n == 0)
		end_input(loop);
	loop->end += (size_t)n;
	return submit_lines(loop);
}

/* ------------------------------------------------------------------ the loop */

static int watch(struct loop *loop, int operation, int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

	return epoll_ctl(loop->epoll, operation, fd, &event);
}

/* Removed and added again, because a set without EPOLLIN would still report each hangup, over and over. */
static int watch_stdin(struct loop *loop, bool wanted)
{
	if (!loop->pollable || wanted == loop->watched)
		return 0;
	if (watch(loop, wanted ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, STDIN_FILENO) == 0) {
		loop->watched = wanted;
		return 0;
	}
	if (errno != EPERM)
		return failed("epoll_ctl", strerror(errno));
	loop->pollable = false;
	return 0;
}

/* The descriptor of the pool is also readable when the pool has broken, and stays so. */
static int serve_pool(struct loop *loop)
{
	const pp_outcome *why;
	char text[512];
	int rc = pp_executor_dispatch(loop->executor, MAX_PENDING);

	if (rc < 0)
		return failed("cannot dispatch", pp_strerror(rc));
	if (fflush(stdout) == EOF || ferror(stdout))
		return failed("stdout", strerror(errno));
	why = pp_executor_broken(loop->executor);
	if (why) {
		pp_outcome_describe(why, text, sizeof text);
		return failed("the pool", text);
	}
	return loop->full ? submit_lines(loop) : 0;
}

static int turn(struct loop *loop)
{
	bool wanted = loop->open && !loop->full;
	struct epoll_event events[2];
	bool read_on;
	int rc = 0, n;

	if (watch_stdin(loop, wanted) < 0)
		return -1;
	read_on = wanted && !loop->pollable;
	n = epoll_wait(loop->epoll, events, 2, read_on ? 0 : -1);
	if (n < 0 && errno != EINTR)
		return failed("epoll_wait", strerror(errno));
	for (int i = 0; rc == 0 && i < n; i++) {
		if (events[i].data.fd == loop->pool_fd)
			rc = serve_pool(loop);
		else
			read_on = true;
	}
	return rc == 0 && read_on ? read_input(loop) : rc;
}

/* A closed stdin is refused first: the next descriptor to be opened would take its number. */
static int prepare(struct loop *loop)
{
	pp_options options = PP_OPTIONS_INIT;
	int rc;

	if (fcntl(STDIN_FILENO, F_GETFD) < 0)
		return failed("stdin", strerror(errno));
	options.max_pending = MAX_PENDING;
	options.flags = PP_SELF_DISPATCH;
	rc = pp_executor_create(&loop->executor, &options);
	if (rc < 0)
		return failed("cannot create the executor", pp_strerror(rc));
	loop->pool_fd = pp_executor_fd(loop->executor);
	if (loop->pool_fd < 0)
		return failed("cannot watch the pool", pp_strerror(loop->pool_fd));
	loop->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll < 0 || watch(loop, EPOLL_CTL_ADD, loop->pool_fd) < 0)
		return failed("epoll", strerror(errno));
	return 0;
}

/* Freeing the executor runs the callbacks that are still to come, when the loop ended early. */
static void clean_up(struct loop *loop)
{
	if (loop->epoll >= 0)
		close(loop->epoll);
	pp_executor_free(loop->executor);
	free(loop->buffer);
}

static int run(void)
{
	struct loop loop = { .epoll = -1, .pollable = true, .open = true };
	int rc = prepare(&loop);

	while (rc == 0 && (loop.open || loop.full || loop.in_flight))
		rc = turn(&loop);
	clean_up(&loop);
	return rc < 0;
}

int main(int argc, char **argv)
{
	static const char usage[] =
		"usage: eventloop\n"
		"Copies stdin to stdout in upper case, line by line, as the lines get done; a line \"crash\" crashes its task.\n";
	static const struct option options[] = { { "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 } };
	int option = getopt_long(argc, argv, "", options, NULL);

	if (option == 'h')
		return fputs(usage, stdout) < 0;
	if (option != -1 || optind < argc) {
		fputs(usage, stderr);
		return 2;
	}
	return run();
}
