/* SPDX-License-Identifier: MIT */
/*
 * T1 to T4: empty tasks per second against each peer, with one and with two workers. Each comparison has a process of its
 * own, so that no peer's threads are in another's way; in it the two sides take turns, and the ratio is taken pair by pair.
 */
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bench.h"

#define WINDOW        32768L
#define PYTHON_WINDOW 4096L
#define OURS          1000000L

struct comparison {
	const char *id;                  /* of the bar; NULL: none */
	const char *peer;
	const struct bench_side *side;   /* NULL: one of the libraries */
	int         workers;
	double      goal;
	long        n, window;           /* the peer's */
};

static const struct comparison comparisons[] = {
	{ "T1", "libuv", NULL, 1, 1.5, 1000000, WINDOW },
	{ "T2", "libuv", NULL, 2, 1.5, 1000000, WINDOW },
	{ "T3", "GLib", NULL, 1, 4, 400000, WINDOW },
	{ "T3", "GLib", NULL, 2, 4, 400000, WINDOW },
	{ "T3", "Boost.Asio", NULL, 1, 8, 200000, WINDOW },
	{ "T3", "Boost.Asio", NULL, 2, 8, 200000, WINDOW },
	{ "T3", "oneTBB", NULL, 1, 2, 500000, WINDOW },
	{ "T3", "oneTBB", NULL, 2, 2, 500000, WINDOW },
	{ "T4", "ProcessPoolExecutor", &bench_python, 2, 700, 5000, PYTHON_WINDOW },
	{ "T4", "pebble", &bench_python, 2, 400, 5000, PYTHON_WINDOW },
	{ NULL, "loky", &bench_python, 2, 0, 5000, PYTHON_WINDOW },
	{ NULL, "ThreadPoolExecutor", &bench_python, 2, 0, 10000, PYTHON_WINDOW },
	{ NULL, "fork + pipe", &bench_fork, 1, 0, 500, 1 },
	{ NULL, "fork + pipe", &bench_fork, 2, 0, 500, 1 },
	{ NULL, "bare shared memory", &bench_bare_stream, 1, 0, OURS, WINDOW },
	{ NULL, "bare shared memory", &bench_bare_stream, 2, 0, OURS, WINDOW },
	{ NULL, "8 bytes in and out", &bench_ours_8, 1, 0, OURS, WINDOW },
	{ NULL, "8 bytes in and out", &bench_ours_8, 2, 0, OURS, WINDOW },
};

static double rate(const struct bench_side *side, void *pool, long n, long window)
{
	return 1e9 * (double)n / (double)side->run(pool, n, window);
}

static void absent(const struct comparison *c)
{
	fprintf(stderr, "skipped: %s is not here (see bench/install-peers.sh)\n", c->peer);
	if (c->id)
		bench_bar_absent(c->id, c->peer, "not here");
}

static void compare(const struct comparison *c)
{
	const struct bench_side *side = c->side ? c->side : bench_peer(c->peer);
	struct bench_samples ours = { .n = 0 }, theirs = { .n = 0 }, ratios = { .n = 0 };
	int rounds = bench_rounds(c->side == &bench_python ? 5 : 11);
	void *pool = bench_ours.open(NULL, c->workers), *peer = side ? side->open(c->peer, c->workers) : NULL;
	char metric[96], part[64];

	if (!peer) {
		absent(c);
		return;
	}
	rate(&bench_ours, pool, 4 * WINDOW, WINDOW);
	rate(side, peer, c->n / 4, c->window);
	for (int i = 0; i < rounds; i++) {
		bench_add(&ours, rate(&bench_ours, pool, OURS, c->window > 1 ? c->window : WINDOW));
		bench_add(&theirs, rate(side, peer, c->n, c->window));
		bench_add(&ratios, ours.v[ours.n - 1] / theirs.v[theirs.n - 1]);
	}
	side->close(peer);
	bench_ours.close(pool);
	snprintf(metric, sizeof metric, "empty tasks, %d worker%s", c->workers, c->workers > 1 ? "s" : "");
	snprintf(part, sizeof part, "%s, %d worker%s", c->peer, c->workers, c->workers > 1 ? "s" : "");
	bench_line("procpool", metric, "tasks/s", &ours);
	bench_line(c->side == &bench_python || !c->side ? c->peer : side->name, metric, "tasks/s", &theirs);
	snprintf(metric, sizeof metric, "rate against %s, %d worker%s", c->peer, c->workers, c->workers > 1 ? "s" : "");
	bench_line("procpool", metric, "times", &ratios);
	if (c->id)
		bench_bar(c->id, part, bench_median(&ratios), true, c->goal, "times");
}

/* argv[1], when there is one, picks the comparisons whose id or peer begins so. */
int main(int argc, char **argv)
{
	int status = 0, failed = 0;

	for (size_t i = 0; i < sizeof comparisons / sizeof *comparisons; i++) {
		const struct comparison *c = comparisons + i;
		pid_t pid;
		if (argc > 1 && strncmp(c->peer, argv[1], strlen(argv[1])) && (!c->id || strcmp(c->id, argv[1])))
			continue;
		fflush(stdout);
		pid = fork();
		if (pid == 0) {
			compare(c);
			return 0;
		}
		if (pid < 0 || waitpid(pid, &status, 0) < 0 || status != 0)
			failed = 1;
	}
	return failed;
}
