/* SPDX-License-Identifier: MIT */
/*
 * Two sides that move their bytes through pipes: a lasting worker, and a process per trip, which has its argument by the
 * fork. Copying is all that they can do.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "payload.h"

#define COPIES (1u << PAYLOAD_ECHO_COPY | 1u << PAYLOAD_ARGUMENT_COPY)

struct pipes {
	int         to[2], from[2], cpu;
	const char *source;
	char       *own;                         /* of the caller's or of the worker's */
	size_t      size;
	uint64_t    sum;
	pid_t       pid;
};

static void write_all(int fd, const void *data, size_t size)
{
	const char *p = data;

	while (size) {
		ssize_t n = write(fd, p, size);
		if (n <= 0)
			bench_die("a pipe could not be written");
		p += n;
		size -= (size_t)n;
	}
}

static void read_all(int fd, void *data, size_t size)
{
	char *p = data;

	while (size) {
		ssize_t n = read(fd, p, size);
		if (n <= 0)
			bench_die("a pipe has ended");
		p += n;
		size -= (size_t)n;
	}
}

static void open_pipe(int *fds)
{
	if (pipe(fds) < 0)
		bench_die("pipe");
	fcntl(fds[1], F_SETPIPE_SZ, 1 << 20);    /* as much as one may have; without, it is only slower */
}

static void close_pipe(int *fds)
{
	close(fds[0]);
	close(fds[1]);
}

/* What the worker does with the argument, and what it writes. */
static void answer(const struct pipes *p, enum payload_mode mode, const char *argument, char *result, int fd)
{
	uint64_t sum;

	if (payload_echoes(mode)) {
		payload_flip(result, argument, p->size);
		write_all(fd, result, p->size);
		return;
	}
	sum = payload_sum(argument, p->size);
	write_all(fd, &sum, sizeof sum);
}

static uint64_t take(const struct pipes *p, enum payload_mode mode, int fd)
{
	uint64_t sum;

	if (payload_echoes(mode)) {
		read_all(fd, p->own, p->size);
		return payload_sum(p->own, p->size);
	}
	read_all(fd, &sum, sizeof sum);
	return sum;
}

static struct pipes *pipes_make(const void *source, size_t size, int cpu)
{
	struct pipes *p = calloc(1, sizeof *p);

	if (!p)
		bench_die("no memory");
	p->source = source;
	p->size = size;
	p->cpu = cpu;
	p->sum = payload_sum(source, size);
	p->own = payload_fill(size);
	return p;
}

/* ------------------------------------------------------------------ a lasting worker */

static void serve(const struct pipes *p)
{
	enum payload_mode mode;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		read_all(p->to[0], &mode, sizeof mode);
		read_all(p->to[0], p->own, p->size);
		answer(p, mode, p->own, p->own, p->from[1]);
	}
}

static void *pipe_open(const char *name, const void *source, size_t size, int cpu)
{
	struct pipes *p = pipes_make(source, size, cpu);

	(void)name;
	open_pipe(p->to);
	open_pipe(p->from);
	bench_pin(cpu);
	p->pid = fork();
	if (p->pid == 0)
		serve(p);
	bench_pin(0);
	return p;
}

static int64_t pipe_run(void *context, enum payload_mode mode, long trips)
{
	struct pipes *p = context;
	int64_t start = bench_now();

	for (long i = 0; i < trips; i++) {
		write_all(p->to[1], &mode, sizeof mode);
		write_all(p->to[1], p->source, p->size);
		payload_check("pipe", mode, p->size, p->sum, take(p, mode, p->from[0]));
	}
	return bench_now() - start;
}

static void pipe_close(void *context)
{
	struct pipes *p = context;

	kill(p->pid, SIGKILL);
	waitpid(p->pid, NULL, 0);
	close_pipe(p->to);
	close_pipe(p->from);
	free(p->own);
	free(p);
}

const struct payload_side payload_pipe = { "pipe", pipe_open, pipe_run, pipe_close, COPIES };

/* ------------------------------------------------------------------ fork and pipe */

static void *fork_open(const char *name, const void *source, size_t size, int cpu)
{
	(void)name;
	return pipes_make(source, size, cpu);
}

static int64_t fork_run(void *context, enum payload_mode mode, long trips)
{
	struct pipes *p = context;
	int64_t start = bench_now();
	int status;

	for (long i = 0; i < trips; i++) {
		open_pipe(p->from);
		p->pid = fork();
		if (p->pid == 0) {
			bench_pin(p->cpu);
			answer(p, mode, p->source, p->own, p->from[1]);
			_exit(0);
		}
		payload_check("fork + pipe", mode, p->size, p->sum, take(p, mode, p->from[0]));
		if (p->pid < 0 || waitpid(p->pid, &status, 0) < 0 || status != 0)
			bench_die("fork + pipe: it failed");
		close_pipe(p->from);
	}
	return bench_now() - start;
}

static void fork_close(void *context)
{
	struct pipes *p = context;

	free(p->own);
	free(p);
}

const struct payload_side payload_fork = { "fork + pipe", fork_open, fork_run, fork_close, COPIES };
