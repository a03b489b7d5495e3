/* SPDX-License-Identifier: MIT */
/*
 * System calls with fallbacks. A process is known by its number and its start time: the number alone may have passed to
 * another. fork(2) is noticed by a word on a page that the kernel wipes in children, because a getpid(2) costs 150 ns.
 */
#include "sysdep.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "procpool.h"

#define NS_PER_MS  INT64_C(1000000)
#define NS_PER_S   INT64_C(1000000000)

int64_t pp__now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * NS_PER_S + t.tv_nsec;
}

int64_t pp__deadline_ns(int64_t timeout_ms)
{
	int64_t now;

	if (timeout_ms == PP_FOREVER)
		return PP__NEVER;
	now = pp__now_ns();
	if (timeout_ms >= (PP__NEVER - now) / NS_PER_MS)
		return PP__NEVER - 1;
	return now + timeout_ms * NS_PER_MS;
}

int pp__cancel_hold(void)
{
	int state;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	return state;
}

void pp__cancel_restore(int state)
{
	pthread_setcancelstate(state, NULL);
}

void pp__cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex, int64_t deadline_ns)
{
	struct timespec t = { .tv_sec = deadline_ns / NS_PER_S, .tv_nsec = deadline_ns % NS_PER_S };
	int state = pp__cancel_hold();

	if (deadline_ns == PP__NEVER)
		pthread_cond_wait(cond, mutex);
	else
		pthread_cond_clockwait(cond, mutex, CLOCK_MONOTONIC, &t);
	pp__cancel_restore(state);
}

static atomic_bool pidfd_forbidden;

void pp__pidfd_forbid(bool forbid)
{
	atomic_store(&pidfd_forbidden, forbid);
}

int pp__pidfd_open(pid_t pid)
{
#ifdef SYS_pidfd_open
	if (!atomic_load(&pidfd_forbidden))
		return (int)syscall(SYS_pidfd_open, pid, 0);
#endif
	errno = ENOSYS;
	return -1;
}

#define PF_EXITING UINT64_C(0x4)     /* of the kernel: set before robust mutexes are marked */

struct stat_line { char state; uint64_t flags, threads, start_ticks; };

/* The line "pid (comm) state ppid ..."; comm may hold anything, so what counts starts behind the last parenthesis. */
static bool read_stat_at(const char *path, struct stat_line *line)
{
	char text[1024], *p;
	int fd, state = pp__cancel_hold();
	ssize_t n = -1;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, text, sizeof text - 1);
		close(fd);
	}
	pp__cancel_restore(state);
	if (n <= 0)
		return false;
	text[n] = 0;
	p = strrchr(text, ')');
	if (!p || p[1] != ' ')
		return false;
	line->state = p[2];
	p += 2;
	for (int field = 3; field <= 22; field++) {
		uint64_t value = strtoull(p, NULL, 10);
		if (field == 9)
			line->flags = value;
		else if (field == 20)
			line->threads = value;
		else if (field == 22)
			line->start_ticks = value;
		p = strchr(p, ' ');
		if (!p)
			return false;
		p++;
	}
	return true;
}

static bool read_stat(pid_t pid, struct stat_line *line)
{
	char path[32];

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	return read_stat_at(path, line);
}

struct pp__identity pp__identify(pid_t pid)
{
	struct pp__identity identity = { .pid = pid };
	struct stat_line line = { 0 };

	if (read_stat(pid, &line))
		identity.start_ticks = line.start_ticks;
	return identity;
}

bool pp__is_alive(const struct pp__identity *identity)
{
	struct stat_line line;

	if (kill(identity->pid, 0) < 0 && errno == ESRCH)
		return false;
	if (!read_stat(identity->pid, &line))
		return true;             /* no /proc, or no descriptor left: only the number speaks */
	if (line.state == 'Z' || line.state == 'X')
		return false;
	return !identity->start_ticks || line.start_ticks == identity->start_ticks;
}

/* A thread that neither is on its way out nor has a SIGKILL to take: the end of the whole process gives one to each. */
static bool thread_lives_on(pid_t pid, const char *thread)
{
	char path[300], line[128];
	unsigned long long pending = 0;
	struct stat_line stat;
	FILE *status;

	snprintf(path, sizeof path, "/proc/%d/task/%.16s/stat", (int)pid, thread);
	if (!read_stat_at(path, &stat) || stat.flags & PF_EXITING)
		return false;
	snprintf(path, sizeof path, "/proc/%d/task/%.16s/status", (int)pid, thread);
	status = fopen(path, "re");
	while (status && fgets(line, sizeof line, status))
		if (sscanf(line, "SigPnd: %llx", &pending) == 1)
			break;
	if (status)
		fclose(status);
	return !(pending & 1ull << (SIGKILL - 1));
}

bool pp__lives_on(pid_t pid)
{
	struct dirent *entry;
	struct stat_line line;
	char path[32];
	bool lives;
	DIR *threads;

	if (!read_stat(pid, &line))
		return false;
	lives = !(line.flags & PF_EXITING);
	snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
	threads = lives || line.threads < 2 ? NULL : opendir(path);
	while (threads && !lives && (entry = readdir(threads)) != NULL)
		lives = *entry->d_name != '.' && thread_lives_on(pid, entry->d_name);
	if (threads)
		closedir(threads);
	return lives;
}

bool pp__is_dumping(pid_t pid)
{
	char path[32], line[128];
	int dumping = 0;
	FILE *status;

	snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
	status = fopen(path, "re");
	while (status && fgets(line, sizeof line, status))
		if (sscanf(line, "CoreDumping: %d", &dumping) == 1)
			break;
	if (status)
		fclose(status);
	return dumping != 0;
}

/* NULL where the kernel cannot. */
static _Atomic int *make_wiped_page(void)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	void *words = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (words == MAP_FAILED)
		return NULL;
	if (madvise(words, page, MADV_WIPEONFORK) < 0) {
		munmap(words, page);
		return NULL;
	}
	return words;
}

static struct { pthread_once_t once; pid_t pid; } original = { .once = PTHREAD_ONCE_INIT };
_Atomic(_Atomic int *) pp__original_mark;

static void note_original(void)
{
	_Atomic int *mark = make_wiped_page();

	original.pid = getpid();
	if (mark)
		atomic_store(mark, 1);
	atomic_store(&pp__original_mark, mark);
}

_Atomic int *pp__worker_mark(void)
{
	_Atomic int *mark = atomic_load(&pp__original_mark);

	if (mark)
		atomic_store(++mark, 1);
	return mark;
}

bool pp__is_original_slowly(void)
{
	pthread_once(&original.once, note_original);
	return pp__is_owner_process(atomic_load(&pp__original_mark), original.pid);
}
