/* SPDX-License-Identifier: MIT */
/*
 * Each of these is one call of the kernel's. One that fails makes the worker's start fail, with words that say which, because
 * a task that runs without its limit is worse than none: but a limit above the inherited hard one is that one.
 */
#include "surroundings.h"
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>
#include "memory.h"

#define OOM_MAX 1000

static int fail(const struct pp__self *self, int error, const char *what, const char *which)
{
	snprintf(self->line->text, PP__TEXT, "%s%s%s", what, *which ? " " : "", which);
	return error < 0 ? error : -EAGAIN;
}

struct pp__oom_score pp__oom_raise(void)
{
	struct pp__oom_score workers = { .length = 0 };
	char text[16];
	int fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC), score, n;

	if (fd < 0)
		return workers;
	n = (int)read(fd, text, sizeof text - 1);
	text[n > 0 ? n : 0] = 0;
	score = atoi(text) + PP__OOM_SUPERVISOR;
	if (score < OOM_MAX) {
		n = snprintf(text, sizeof text, "%d", score);
		if (write(fd, text, (size_t)n) < 0)
			n = 0;                   /* the kernel's killer then sees no difference */
	}
	close(fd);
	if (score < PP__OOM_WORKER)
		workers.length = (uint32_t)snprintf(workers.text, sizeof workers.text, "%d", PP__OOM_WORKER);
	return workers;
}

static void enter_oom_score(const struct pp__oom_score *score)
{
	int fd = score->length ? open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC) : -1;

	if (fd < 0)
		return;
	if (write(fd, score->text, score->length) < 0)
		errno = 0;                       /* as above */
	close(fd);
}

/* The CPU of this seat: of those that the options name, or of the inherited ones. */
static void pick_cpu(const pp_options *o, int32_t seat, cpu_set_t *set)
{
	int n, skip, cpu = 0;

	if (o->cpu_count) {
		CPU_ZERO(set);
		CPU_SET((size_t)o->cpus[(uint32_t)seat % o->cpu_count], set);
		return;
	}
	n = CPU_COUNT(set);
	skip = n ? seat % n : 0;
	for (; cpu < CPU_SETSIZE && (!CPU_ISSET((size_t)cpu, set) || skip--); cpu++)
		;
	CPU_ZERO(set);
	if (cpu < CPU_SETSIZE)
		CPU_SET((size_t)cpu, set);
}

static int set_cpus(const struct pp__self *self, const pp_options *o)
{
	int32_t seat = o->flags & PP_PIN_EACH ? atomic_load(&self->line->seat) : -1;
	cpu_set_t set;

	if (!o->cpu_count && seat < 0)
		return 0;
	if (sched_getaffinity(0, sizeof set, &set) < 0)
		return -errno;
	if (seat >= 0) {
		pick_cpu(o, seat, &set);
	} else {
		CPU_ZERO(&set);
		for (uint32_t i = 0; i < o->cpu_count; i++)
			CPU_SET((size_t)o->cpus[i], &set);
	}
	return sched_setaffinity(0, sizeof set, &set) < 0 ? -errno : 0;
}

void pp__surroundings_pin(const struct pp__self *self, const pp_options *options)
{
	if (options->flags & PP_PIN_EACH)
		set_cpus(self, options);
}

/* The array is the worker's own, because setenv(3) writes into it. The strings stay where the application has them. */
static int set_environment(const char *const *given)
{
	size_t n = 0;
	char **copy;

	while (given[n])
		n++;
	copy = calloc(n + 1, sizeof *copy);
	if (!copy)
		return -ENOMEM;
	if (n)
		memcpy(copy, given, n * sizeof *copy);
	environ = copy;
	return 0;
}

static int add_nice(int increment)
{
	errno = 0;
	return nice(increment) == -1 && errno ? -errno : 0;
}

int pp__surroundings_enter(struct pp__self *self, const pp_options *o, const struct pp__oom_score *score)
{
	int rc = o->nice ? add_nice(o->nice) : 0;

	if (rc < 0)
		return fail(self, rc, "nice", "");
	rc = set_cpus(self, o);
	if (rc < 0)
		return fail(self, rc, "running on its CPUs", "");
	if (o->working_directory && chdir(o->working_directory) < 0)
		return fail(self, -errno, "working directory", o->working_directory);
	rc = o->environment ? set_environment(o->environment) : 0;
	if (rc < 0)
		return fail(self, rc, "environment", "");
	if (o->name)
		prctl(PR_SET_NAME, o->name);
	enter_oom_score(score);
	return 0;
}

/* Soft and hard are the same, but where the kernel tells of the soft one by a signal that names it: it then comes first. */
static int set_limit(int resource, uint64_t most, uint64_t grace)
{
	struct rlimit now, limit;

	if (getrlimit(resource, &now) < 0)
		return -errno;
	limit.rlim_max = most + grace < now.rlim_max ? most + grace : now.rlim_max;
	limit.rlim_cur = most < limit.rlim_max ? most : limit.rlim_max;
	return setrlimit(resource, &limit) < 0 ? -errno : 0;
}

/* Beyond what it has now, most of which is the shared memory of the executor and not in use. */
static int limit_address_space(uint64_t more)
{
	struct pp__memory now;

	if (!pp__memory_now(0, &now))
		return -ENOSYS;
	return set_limit(RLIMIT_AS, more > UINT64_MAX / 2 - now.virtual ? UINT64_MAX / 2 : now.virtual + more, 0);
}

int pp__surroundings_limit(struct pp__self *self, const pp_options *o)
{
	const struct { int resource; int64_t value; uint64_t none, grace; const char *name; } limits[] = {
		{ RLIMIT_DATA, o->limits.data, 0, 0, "data" },
		{ RLIMIT_CPU, o->limits.cpu_seconds, 0, 1, "CPU seconds" },
		{ RLIMIT_FSIZE, o->limits.file_size, 0, 0, "file size" },
		/* 1 rather than 0: that alone also keeps a core from a program that core_pattern pipes it to. */
		{ RLIMIT_CORE, o->limits.core_size, 1, 0, "core size" },
		{ RLIMIT_NOFILE, o->limits.open_files, 0, 0, "open files" },
	};
	int rc = o->limits.address_space ? limit_address_space(pp__limit_bytes(o->limits.address_space)) : 0;

	if (rc < 0)
		return fail(self, rc, "limit of", "address space");
	for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
		if (!limits[i].value)
			continue;
		rc = set_limit(limits[i].resource, limits[i].value == PP_NONE ? limits[i].none : (uint64_t)limits[i].value,
		               limits[i].grace);
		if (rc < 0)
			return fail(self, rc, "limit of", limits[i].name);
	}
	return 0;
}
