/* SPDX-License-Identifier: MIT */
/*
 * What a test left behind. The processes of an executor are nobody's children (the supervisor is init's), so they are
 * known by a mark: a pipe that the fixture opens, which every descendant inherits, over exec too.
 */
#include "support_leftovers.h"
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "support.h"

#define MARK_FD      251
#define MAX_PIDS     1024
#define GONE_MS      10000

static struct census before;
static char mark[64];

static int count_entries(const char *path)
{
	DIR *dir = opendir(path);
	int n = 0;

	if (!dir)
		return -1;
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* Shared memory of executors only: other mappings come and go with malloc. */
static int count_mappings(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[1024];
	int n = 0;

	while (maps && fgets(line, sizeof line, maps))
		n += strstr(line, "/dev/shm/") || strstr(line, "/memfd:procpool");
	if (maps)
		fclose(maps);
	return n;
}

struct census leftovers_count(void)
{
	return (struct census){ .threads = count_entries("/proc/self/task"), .fds = count_entries("/proc/self/fd"),
	                        .mappings = count_mappings(), .files = count_entries("/dev/shm") };
}

static bool has_mark(pid_t pid)
{
	char path[64], target[64];
	ssize_t n;

	snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)pid, MARK_FD);
	n = readlink(path, target, sizeof target - 1);
	if (n < 0)
		return false;
	target[n] = 0;
	return strcmp(target, mark) == 0;
}

struct process { char state; pid_t parent; char name[32]; };

static bool read_process(pid_t pid, struct process *process)
{
	char path[64], text[512], *close_paren, *open_paren;
	FILE *file;
	int parent = 0;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	file = fopen(path, "r");
	if (!file)
		return false;
	open_paren = fgets(text, sizeof text, file) ? strchr(text, '(') : NULL;
	fclose(file);
	close_paren = open_paren ? strrchr(text, ')') : NULL;
	if (!close_paren || sscanf(close_paren + 1, " %c %d", &process->state, &parent) != 2)
		return false;
	*close_paren = 0;
	snprintf(process->name, sizeof process->name, "%.31s", open_paren + 1);
	process->parent = parent;
	return true;
}

/* Every process but this one that carries the mark; a zombie has no descriptors any more and does not count. */
static size_t find_marked(pid_t *pids, size_t max)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	size_t n = 0;

	while (proc && (entry = readdir(proc)) != NULL) {
		pid_t pid = (pid_t)atoi(entry->d_name);
		if (!isdigit((unsigned char)*entry->d_name) || pid == getpid() || !has_mark(pid))
			continue;
		if (n < max)
			pids[n] = pid;
		n++;
	}
	if (proc)
		closedir(proc);
	return n < max ? n : max;
}

size_t support_pool_processes(pid_t *pids, size_t max)
{
	return find_marked(pids, max);
}

pid_t support_supervisor(void)
{
	pid_t pids[MAX_PIDS], found = 0;
	size_t n = find_marked(pids, MAX_PIDS);

	for (size_t i = 0; i < n; i++) {
		struct process process, parent;
		if (!read_process(pids[i], &process) || strcmp(process.name, "procpool") != 0 || process.state == 'Z')
			continue;
		if (has_mark(process.parent) && read_process(process.parent, &parent)
		    && strcmp(parent.name, "procpool") == 0)
			continue;        /* a worker: its parent is the supervisor */
		found = pids[i];
	}
	ck_assert_msg(found > 0, "there is no supervisor");
	return found;
}

void leftovers_note(void)
{
	struct stat st;
	int fds[2];

	ck_assert_int_eq(pipe(fds), 0);
	ck_assert_int_eq(fstat(fds[0], &st), 0);
	snprintf(mark, sizeof mark, "pipe:[%llu]", (unsigned long long)st.st_ino);
	ck_assert_int_eq(dup2(fds[1], MARK_FD), MARK_FD);
	close(fds[0]);
	close(fds[1]);
	before = leftovers_count();
}

static void assert_no_process(void)
{
	pid_t pids[MAX_PIDS];
	struct process process = { .name = "?" };
	size_t n = 0;

	for (int i = 0; i < GONE_MS; i++) {
		n = find_marked(pids, MAX_PIDS);
		if (n == 0)
			return;
		poll(NULL, 0, 1);
	}
	read_process(pids[0], &process);
	ck_abort_msg("%zu processes are left over, one is %d (%s, %c)", n, (int)pids[0], process.name, process.state);
}

/* A joined thread stays listed for a moment, and other programs use /dev/shm too. */
static struct census settled_census(struct census was)
{
	struct census now = leftovers_count();

	for (int i = 0; i < 1000 && (now.threads > was.threads || now.files > was.files); i++) {
		poll(NULL, 0, 1);
		now = leftovers_count();
	}
	return now;
}

bool leftovers_none(struct census was)
{
	struct census now = settled_census(was);

	if (now.threads == was.threads && now.fds == was.fds && now.mappings == was.mappings && now.files <= was.files)
		return true;
	fprintf(stderr, "# left over: threads %d, was %d; descriptors %d, %d; mappings %d, %d; files %d, %d\n", now.threads,
	        was.threads, now.fds, was.fds, now.mappings, was.mappings, now.files, was.files);
	return false;
}

void leftovers_check(void)
{
	struct census after;

	assert_no_process();
	after = settled_census(before);
	ck_assert_int_eq(after.threads, before.threads);
	ck_assert_int_eq(after.fds, before.fds);
	ck_assert_int_eq(after.mappings, before.mappings);
	ck_assert_int_le(after.files, before.files);
	close(MARK_FD);
}

int64_t support_shared_bytes(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[512], path[128];
	unsigned long from, to;
	int64_t bytes = -1;
	struct stat st;

	while (maps && fgets(line, sizeof line, maps)) {
		if (!strstr(line, "/dev/shm/") && !strstr(line, "/memfd:procpool"))
			continue;
		if (sscanf(line, "%lx-%lx", &from, &to) != 2)
			continue;
		snprintf(path, sizeof path, "/proc/self/map_files/%lx-%lx", from, to);
		if (stat(path, &st) == 0)
			bytes = (int64_t)st.st_blocks * 512;
	}
	if (maps)
		fclose(maps);
	return bytes;
}
