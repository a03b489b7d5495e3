/* SPDX-License-Identifier: MIT */
/*
 * What a library costs a program at its start: for each of the files named, the microseconds of dlopen with all
 * symbols bound, in turns, each time in a child that has none of them yet. This program is linked with none either.
 * What the library needs beyond libc is loaded with it, and counts.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bench.h"

static double load_once(const char *path)
{
	int64_t took = -1;
	int fds[2];
	pid_t pid;

	if (pipe(fds) < 0 || (pid = fork()) < 0)
		bench_die("no pipe or no child");
	if (pid == 0) {
		int64_t before = bench_now();
		if (dlopen(path, RTLD_NOW))
			took = bench_now() - before;
		_exit(write(fds[1], &took, sizeof took) != sizeof took);
	}
	if (read(fds[0], &took, sizeof took) != sizeof took)
		took = -1;
	close(fds[0]);
	close(fds[1]);
	waitpid(pid, NULL, 0);
	return (double)took / 1e3;
}

int main(int argc, char **argv)
{
	struct bench_samples *loads = calloc((size_t)argc, sizeof *loads);
	int rounds = bench_rounds(101);

	if (!loads)
		bench_die("no memory");
	for (int i = 0; i <= rounds; i++) {
		for (int file = 1; file < argc; file++) {
			double us = load_once(argv[file]);
			if (i && us >= 0)        /* the first brings the file into memory */
				bench_add(&loads[file], us);
		}
	}
	for (int file = 1; file < argc; file++) {
		const char *name = strrchr(argv[file], '/');
		if (loads[file].n)
			bench_line(name ? name + 1 : argv[file], "load", "us", &loads[file]);
		else
			fprintf(stderr, "skipped: %s is not here\n", argv[file]);
	}
	free(loads);
	return 0;
}
