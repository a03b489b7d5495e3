/* SPDX-License-Identifier: MIT */
/*
 * Reading options structs: of any size, as programs built against older or newer headers pass them. What is missing is
 * the default; what this version does not know must be zero.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include "pool.h"
#include "sum.h"

#define KNOWN_FLAGS (PP_START_ALL | PP_SELF_DISPATCH | PP_MEMFD_ONLY | PP_SHM_ONLY | PP_PASS_FDS \
                     | PP_PIN_EACH | PP_CHECKSUM | PP_COPY_OUT | PP_NO_CRASH_HANDLER | PP_CAPTURE | PP_ACCOUNTING \
                     | PP_HARDENED)
#define DEFAULT_START_ATTEMPTS 3
#define DEFAULT_CAPTURE 4096
#define DEFAULT_GRACE_MS 1000
#define KNOWN_RETRY_ON (PP_ON(PP_CRASHED) | PP_ON(PP_EXITED) | PP_ON(PP_TIMED_OUT) | PP_ON(PP_MEMORY) | PP_ON(PP_RAISED))
#define MAX_NICE 39                      /* from one end to the other */

static_assert(sizeof(pp_options) == 240, "no implicit padding");
static_assert(sizeof(pp_limits) == 64, "no implicit padding");
static_assert(sizeof(pp_task_options) == 80, "no implicit padding");
static_assert(sizeof(pp_map_options) == 48, "no implicit padding");

static int read_struct(void *to, size_t to_size, const void *from, size_t from_size)
{
	const unsigned char *bytes = from;

	if (from_size < sizeof(size_t))
		return -EINVAL;
	for (size_t i = to_size; i < from_size; i++)
		if (bytes[i])
			return -EINVAL;
	memset(to, 0, to_size);
	memcpy(to, from, from_size < to_size ? from_size : to_size);
	return 0;
}

/* The affinity mask rather than the number of CPUs: in a container or under taskset that is what one can have. */
static int32_t default_workers(void)
{
	cpu_set_t set;
	int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;

	return n < 1 ? 1 : n > (int)PP__MAX_WORKERS ? (int32_t)PP__MAX_WORKERS : n;
}

static bool limits_are_valid(const pp_limits *limits)
{
	const int64_t all[] = { limits->address_space, limits->data, limits->cpu_seconds, limits->file_size,
	                        limits->open_files, limits->core_size, limits->growth_bytes, limits->resident_bytes };

	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		if (all[i] < PP_NONE)
			return false;
	return true;
}

/* What can be seen of it here. Whether there is such a directory, or such a CPU, the first worker will find out. */
static bool surroundings_are_valid(const pp_options *o)
{
	if (!o->cpus != !o->cpu_count || o->nice < -MAX_NICE || o->nice > MAX_NICE)
		return false;
	for (uint32_t i = 0; i < o->cpu_count; i++)
		if (o->cpus[i] < 0 || o->cpus[i] >= CPU_SETSIZE)
			return false;
	if ((o->name && !*o->name) || (o->working_directory && !*o->working_directory))
		return false;
	return o->idle_timeout_ms >= 0 && limits_are_valid(&o->limits);
}

int pp__options_read(pp_options *to, const pp_options *from)
{
	static const pp_options defaults = PP_OPTIONS_INIT;
	int rc;

	if (!from)
		from = &defaults;
	rc = read_struct(to, sizeof *to, from, from->size);
	if (rc < 0)
		return rc;
	if (to->flags & ~(uint32_t)KNOWN_FLAGS || to->reserved || to->start_attempts < 0)
		return -EINVAL;
	if ((to->flags & PP_MEMFD_ONLY) && (to->flags & PP_SHM_ONLY))
		return -EINVAL;
	if ((to->flags & PP_COPY_OUT) && !(to->flags & PP_CHECKSUM))
		return -EINVAL;
	if ((to->max_workers < 0 && to->max_workers != PP_INLINE) || to->max_workers > (int32_t)PP__MAX_WORKERS)
		return -EINVAL;
	if ((to->flags & PP_HARDENED) && to->max_workers == PP_INLINE)
		return -EINVAL;
	if ((!to->initializer_data && to->initializer_size) || !surroundings_are_valid(to))
		return -EINVAL;
	if ((to->flags & PP_CHECKSUM) && !pp__sum_is_known())
		return -ENOTSUP;
	if (to->capture_bytes > PP__OUTPUT_MAX)
		return -EINVAL;
	if (to->flags & PP_CAPTURE && !to->capture_bytes)
		to->capture_bytes = DEFAULT_CAPTURE;
	if (to->grace_ms < PP_NONE || to->timeout_ms < 0 || to->deadline_ms < 0)
		return -EINVAL;
	if (to->grace_ms == 0)
		to->grace_ms = DEFAULT_GRACE_MS;
	if (to->max_workers == 0)
		to->max_workers = default_workers();
	if (to->start_attempts == 0)
		to->start_attempts = DEFAULT_START_ATTEMPTS;
	return 0;
}

const pp_task_options pp__task_defaults = PP_TASK_OPTIONS_INIT;

int pp__task_options_read(pp_task_options *to, const pp_task_options *from)
{
	int rc;

	if (!from)
		from = &pp__task_defaults;
	rc = read_struct(to, sizeof *to, from, from->size);
	if (rc < 0)
		return rc;
	if (to->submit_timeout_ms < PP_NONE || to->timeout_ms < PP_NONE || to->deadline_ms < PP_NONE || to->retry_delay_ms < 0
	    || to->retry_delay_max_ms < 0)
		return -EINVAL;
	if (to->retries > PP_RETRIES_MAX || to->retry_on & ~KNOWN_RETRY_ON || to->priority < -1 || to->priority > 1)
		return -EINVAL;
	return to->fd_count && !to->fds ? -EINVAL : 0;
}

int pp__map_options_read(pp_map_options *to, const pp_map_options *from)
{
	static const pp_map_options defaults = PP_MAP_OPTIONS_INIT;
	int rc;

	if (!from)
		from = &defaults;
	rc = read_struct(to, sizeof *to, from, from->size);
	if (rc < 0)
		return rc;
	if (to->chunk > SIZE_MAX / 2 || to->buffer > SIZE_MAX / 2 || to->unordered > 1 || to->reserved)
		return -EINVAL;
	return to->timeout_ms < PP_FOREVER ? -EINVAL : 0;
}
