/* SPDX-License-Identifier: MIT */
/* Reading /proc: see proc.h. A process that has gone meanwhile reads as one without anything. */
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "proc.h"

static FILE *open_proc(pid_t pid, const char *file)
{
	char path[64];

	snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, file);
	return fopen(path, "re");
}

pid_t proc_parent(pid_t pid)
{
	FILE *f = open_proc(pid, "stat");
	char line[512], *p;
	int parent = 0;

	if (!f)
		return 0;
	p = fgets(line, sizeof line, f) ? strrchr(line, ')') : NULL;     /* the name before it may have anything in it */
	if (!p || sscanf(p + 1, " %*c %d", &parent) != 1)
		parent = 0;
	fclose(f);
	return parent;
}

/* The pids in /proc, one per call; 0 at the end. */
static pid_t next_pid(DIR *proc)
{
	struct dirent *entry;

	while ((entry = readdir(proc)))
		if (atoi(entry->d_name) > 0)
			return atoi(entry->d_name);
	return 0;
}

static DIR *open_all(void)
{
	DIR *proc = opendir("/proc");

	if (!proc)
		bench_die("there is no /proc");
	return proc;
}

int proc_of_pool(pp_executor *executor, pid_t *pids)
{
	pid_t worker, pid;
	int count = 1;
	DIR *proc;

	if (pp_executor_workers(executor, &worker, 1) < 1)
		bench_die("there is no worker");
	pids[0] = proc_parent(worker);
	proc = open_all();
	while ((pid = next_pid(proc)) && count < PROC_MOST)
		if (proc_parent(pid) == pids[0])
			pids[count++] = pid;
	closedir(proc);
	return count;
}

/* "Name: N kB" */
static int64_t kilobytes(const char *line, const char *name)
{
	size_t length = strlen(name);

	return strncmp(line, name, length) == 0 && line[length] == ':' ? 1024 * strtoll(line + length + 1, NULL, 10) : 0;
}

int64_t proc_memory(pid_t pid, int64_t *shared)
{
	FILE *f = open_proc(pid, "smaps");
	int64_t private = 0, others = 0;
	char line[512], permissions[8] = "";

	if (!f)
		bench_die("no smaps of %d", (int)pid);
	while (fgets(line, sizeof line, f)) {
		sscanf(line, "%*[0-9a-f]-%*[0-9a-f] %7s ", permissions);         /* the head of a mapping; else unchanged */
		if (permissions[3] == 's')
			others += kilobytes(line, "Rss");
		else
			private += kilobytes(line, "Private_Clean") + kilobytes(line, "Private_Dirty");
	}
	fclose(f);
	if (shared)
		*shared = others;
	return private;
}

int64_t proc_private(pid_t pid)
{
	FILE *f = open_proc(pid, "smaps_rollup");
	int64_t bytes = 0;
	char line[512];

	if (!f)
		bench_die("no smaps_rollup of %d", (int)pid);
	while (fgets(line, sizeof line, f))
		bytes += kilobytes(line, "Private_Clean") + kilobytes(line, "Private_Dirty");
	fclose(f);
	return bytes;
}

int64_t proc_cpu_ns(pid_t pid)
{
	struct timespec ts;
	clockid_t clock;

	if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &ts) < 0)
		bench_die("no CPU clock of %d", (int)pid);
	return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

static uint64_t mapping(const char *line, uint64_t *size)
{
	uint64_t from, to, inode;
	char permissions[8];

	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %*s %*s %" SCNu64, &from, &to, permissions, &inode) != 4)
		return 0;
	*size = permissions[3] == 's' ? to - from : 0;
	return inode;
}

uint64_t proc_largest_shared(void)
{
	FILE *f = open_proc(getpid(), "maps");
	uint64_t largest = 0, found = 0, size = 0, inode;
	char line[512];

	while (f && fgets(line, sizeof line, f)) {
		inode = mapping(line, &size);
		if (inode && size > largest) {
			largest = size;
			found = inode;
		}
	}
	if (f)
		fclose(f);
	return found;
}

bool proc_anyone_maps(uint64_t inode)
{
	DIR *proc = open_all();
	bool found = false;
	pid_t pid;

	while (!found && (pid = next_pid(proc))) {
		FILE *f = open_proc(pid, "maps");
		uint64_t size = 0;
		char line[512];
		while (f && !found && fgets(line, sizeof line, f))
			found = mapping(line, &size) == inode && size;
		if (f)
			fclose(f);
	}
	closedir(proc);
	return found;
}
