/* SPDX-License-Identifier: MIT */
/*
 * Two peers that need no library: a process per task with a pipe for its result, and programs in Python, which
 * bench/peers.py runs and which are asked for one round at a time over a pipe.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bench.h"

/* ------------------------------------------------------------------ fork and pipe */

static void *fork_open(const char *name, int workers)
{
	long *at_once = malloc(sizeof *at_once);

	(void)name;
	if (!at_once)
		bench_die("no memory");
	*at_once = workers;
	return at_once;
}

struct child { pid_t pid; int fd; };

static struct child fork_task(uint64_t in)
{
	struct child child;
	int fds[2];

	if (pipe(fds) < 0)
		bench_die("pipe");
	child.pid = fork();
	if (child.pid < 0)
		bench_die("fork");
	if (child.pid == 0) {
		in++;
		_exit(write(fds[1], &in, sizeof in) != sizeof in);
	}
	close(fds[1]);
	child.fd = fds[0];
	return child;
}

static void fork_take(const struct child *child, uint64_t in)
{
	uint64_t out;
	int status;

	if (read(child->fd, &out, sizeof out) != sizeof out || out != in + 1 || waitpid(child->pid, &status, 0) < 0
	    || status != 0)
		bench_die("fork: a wrong result");
	close(child->fd);
}

/* As many at a time as there would be workers: a window of thousands would be as many processes. */
static int64_t fork_run(void *pool, long n, long window)
{
	long at_once = *(long *)pool;
	struct child children[64];
	int64_t start = bench_now();

	(void)window;
	if (at_once > 64)
		at_once = 64;
	for (long i = 0; i < n + at_once; i++) {
		struct child *child = children + i % at_once;
		if (i >= at_once && i - at_once < n)
			fork_take(child, (uint64_t)(i - at_once));
		if (i < n)
			*child = fork_task((uint64_t)i);
	}
	return bench_now() - start;
}

const struct bench_side bench_fork = { "fork + pipe", fork_open, fork_run, free };

/* ------------------------------------------------------------------ Python */

struct python { FILE *to, *from; pid_t pid; };

static pid_t spawn(const char *name, int workers, const int *in, const int *out)
{
	const char *python = getenv("PYTHON3"), *folder = getenv("BENCH_SRCDIR");
	char script[4096], count[16];
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	snprintf(script, sizeof script, "%s/peers.py", folder ? folder : ".");
	snprintf(count, sizeof count, "%d", workers);
	dup2(in[0], 0);
	dup2(out[1], 1);
	for (int fd = 3; fd < 256; fd++)
		close(fd);
	if (!python)
		python = "python3";
	execlp(python, python, script, name, count, (char *)NULL);       /* loky starts what argv[0] names once more */
	_exit(77);
}

static void python_close(void *pool)
{
	struct python *p = pool;

	fclose(p->to);
	fclose(p->from);
	waitpid(p->pid, NULL, 0);
	free(p);
}

/* It says "ready", or is not to be had. */
static void *python_open(const char *name, int workers)
{
	struct python *p = malloc(sizeof *p);
	int in[2], out[2];
	char line[64];

	if (!p || pipe(in) < 0 || pipe(out) < 0)
		bench_die("pipe");
	p->pid = spawn(name, workers, in, out);
	close(in[0]);
	close(out[1]);
	p->to = fdopen(in[1], "w");
	p->from = fdopen(out[0], "r");
	if (fgets(line, sizeof line, p->from) && strcmp(line, "ready\n") == 0)
		return p;
	python_close(p);
	return NULL;
}

static int64_t python_run(void *pool, long n, long window)
{
	struct python *p = pool;
	char line[64];

	fprintf(p->to, "%ld %ld\n", n, window);
	fflush(p->to);
	if (!fgets(line, sizeof line, p->from))
		bench_die("the Python side has ended");
	return strtoll(line, NULL, 10);
}

const struct bench_side bench_python = { "python", python_open, python_run, python_close };
