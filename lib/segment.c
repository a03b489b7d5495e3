/* SPDX-License-Identifier: MIT */
/*
 * The address space is reserved once, the file is sparse to that size, and memory is added in steps of at most 1 MiB
 * before its first use: a full tmpfs is then an error of the call that asked for more, not a SIGBUS of whoever touches
 * it. RLIMIT_FSIZE is looked at first because ftruncate(2) and fallocate(2) beyond it kill the caller by SIGXFSZ.
 */
#include "segment.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include "slot.h"
#include "sysdep.h"

#ifndef MADV_POPULATE_WRITE
# define MADV_POPULATE_WRITE 23
#endif
#define GIB          (UINT64_C(1) << 30)
#define SHM_ENOUGH   ((uint64_t)128 << 20)
#define WARM_MAX     ((uint64_t)128 << 20)
#define COMMIT_STEP  ((uint64_t)1 << 20)

/* A container's /dev/shm of 64 MiB would be full before long; a memfd knows no such bound. */
static bool shm_is_small(void)
{
	struct statvfs fs;

	return statvfs("/dev/shm", &fs) == 0 && (uint64_t)fs.f_bavail * fs.f_frsize < SHM_ENOUGH;
}

static int open_tmpfile(void)
{
	return open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
}

static int open_named(void)
{
	uint64_t r[2] = { 0, 0 };
	char name[48];
	int fd;

	if (getrandom(r, sizeof r, 0) != (ssize_t)sizeof r)
		return -1;
	snprintf(name, sizeof name, "/procpool-%016llx%016llx", (unsigned long long)r[0], (unsigned long long)r[1]);
	fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
	if (fd >= 0)
		shm_unlink(name);
	return fd;
}

/* A memfd is born open to all; only through /proc/PID/fd, but that is one way too many. */
static int open_memfd(void)
{
	int fd = memfd_create("procpool", MFD_CLOEXEC);

	if (fd >= 0)
		fchmod(fd, 0600);
	return fd;
}

static int open_object(enum pp__backing backing)
{
	switch (backing) {
	case PP__BACKING_TMPFILE: return open_tmpfile();
	case PP__BACKING_MEMFD:   return open_memfd();
	default:                  return open_named();
	}
}

/* Cuts the mapping of header->size bytes into areas, in the order of layout.h. */
static void lay_out(struct pp__header *h, uint32_t max_workers)
{
	uint64_t at = PP__PAGE, rest;

	h->max_slots = (uint32_t)(h->size >> 12);        /* 16 million at 64 GiB: a tenth of the space, if all are used */
	h->max_workers = max_workers;
	h->timed = at;
	at += (h->max_slots / 8 + PP__PAGE - 1) & ~(uint64_t)(PP__PAGE - 1);
	h->entries = PP__ENTRIES(max_workers);
	h->descs = at;
	at += (uint64_t)h->max_slots * sizeof(struct pp__desc);
	h->rings = at;
	h->ring_stride = (uint64_t)h->max_slots * 2 * sizeof(uint64_t);
	at += PP__LEVELS * 2 * h->ring_stride;
	h->arguments = at;
	h->control = h->size / 2;
	h->lives = h->control - (uint64_t)PP__MAX_ENTRIES * PP__PAGE;
	at = h->control + PP__PAGE;
	h->workers = at;
	at += (PP__MAX_ENTRIES * sizeof(struct pp__worker) + PP__PAGE - 1) & ~(uint64_t)(PP__PAGE - 1);
	h->tallies = at;
	at += (PP__TALLIES(PP__MAX_ENTRIES) * sizeof(struct pp__tally) + PP__PAGE - 1) & ~(uint64_t)(PP__PAGE - 1);
	h->cells = at;
	at += (uint64_t)h->max_slots * sizeof(struct pp__cell);
	h->extensions = at;
	at += (uint64_t)h->max_slots * PP__EXTENSION;
	h->usages = at;
	at += (uint64_t)h->max_slots * sizeof(struct pp__usage);
	/* A quarter of the rest for mutable blocks, one for results up to 64 KiB, half for larger ones. The words of all units
	 * come first. */
	rest = h->size - at;
	h->mutables = (h->size - rest / 4) & ~(uint64_t)(PP__BIG_UNIT - 1);
	h->unit_words = at;
	h->small_count = (uint32_t)(rest / 4 / PP__SMALL_UNIT);
	h->small_units = (at + (h->small_count + rest / PP__BIG_UNIT) * sizeof(uint64_t) + PP__PAGE - 1)
	                 & ~(uint64_t)(PP__PAGE - 1);
	h->big_units = (h->small_units + (uint64_t)h->small_count * PP__SMALL_UNIT + PP__BIG_UNIT - 1)
	               & ~(uint64_t)(PP__BIG_UNIT - 1);
	h->big_count = (uint32_t)((h->mutables - h->big_units) / PP__BIG_UNIT);
}

static void find_areas(struct pp__shared *shared, char *base, const struct pp__header *h)
{
	shared->base = base;
	shared->header = (struct pp__header *)(void *)base;
	shared->control = (struct pp__control *)(void *)(base + h->control);
	shared->workers = (struct pp__worker *)(void *)(base + h->workers);
	shared->timed = (_Atomic uint64_t *)(void *)(base + h->timed);
	shared->tallies = (struct pp__tally *)(void *)(base + h->tallies);
	shared->usages = (struct pp__usage *)(void *)(base + h->usages);
	shared->descs = (struct pp__desc *)(void *)(base + h->descs);
	shared->cells = (struct pp__cell *)(void *)(base + h->cells);
	shared->units = (_Atomic uint64_t *)(void *)(base + h->unit_words);
	shared->extensions = (unsigned char *)(base + h->extensions);
	for (unsigned i = 0; i < PP__LEVELS * 2; i++)
		shared->rings[i / 2][i % 2] = (_Atomic uint64_t *)(void *)(base + h->rings + i * h->ring_stride);
}

/* 0 or an errno that the contract knows: what a file system has beside these means that it gives no memory. */
static int set_size(int fd, uint64_t size)
{
	int rc;

	do
		rc = ftruncate(fd, (off_t)size);
	while (rc < 0 && errno == EINTR);
	return rc == 0 ? 0 : errno == EFBIG || errno == ENOMEM ? errno : ENOSPC;
}

/* The largest of the sizes that this process, its limits and the file system allow. */
static int map_object(struct pp__segment *segment)
{
	static const uint64_t sizes[] = { 64 * GIB, 16 * GIB, 4 * GIB, 1 * GIB };
	struct rlimit limit;
	int error = ENOMEM;
	void *p;

	if (getrlimit(RLIMIT_FSIZE, &limit) < 0)
		limit.rlim_cur = RLIM_INFINITY;
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		if (limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < sizes[i]) {
			error = EFBIG;
			continue;
		}
		error = ENOMEM;
		p = mmap(NULL, sizes[i], PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, segment->fd, 0);
		if (p == MAP_FAILED)
			continue;
		error = set_size(segment->fd, sizes[i]);
		if (error == 0) {
			segment->size = sizes[i];
			segment->shared.base = p;
			return 0;
		}
		munmap(p, sizes[i]);
	}
	return -error;
}

void (*pp__memory_opener)(void *address, size_t size);

int pp__memory_commit_at(void *address, size_t size)
{
	uintptr_t at = (uintptr_t)address & ~(uintptr_t)(PP__PAGE - 1), end = (uintptr_t)address + size;

	if (pp__memory_opener)
		pp__memory_opener(address, size);
	while (at < end) {
		size_t step = end - at < COMMIT_STEP ? end - at : COMMIT_STEP;
		step = (step + PP__PAGE - 1) & ~(size_t)(PP__PAGE - 1);
		if (madvise((void *)at, step, MADV_POPULATE_WRITE) == 0) {
			at += step;
			continue;
		}
		if (errno == EFAULT || errno == ENOSPC)
			return -ENOSPC;
		if (errno == EINVAL)
			return -EINVAL;
		if (errno != EINTR && errno != EAGAIN)
			return -ENOMEM;
	}
	return 0;
}

static int commit_through_fd(const struct pp__segment *segment, uint64_t offset, uint64_t size)
{
	struct stat st;
	int rc;

	if (segment->fd < 0 || fstat(segment->fd, &st) < 0 || st.st_dev != segment->dev || st.st_ino != segment->ino)
		return -ENOSPC;          /* the application has closed it: no more memory, but no foreign file is touched */
	for (uint64_t done = 0; done < size; done += COMMIT_STEP) {
		uint64_t step = size - done < COMMIT_STEP ? size - done : COMMIT_STEP;
		int state = pp__cancel_hold();
		do
			rc = fallocate(segment->fd, 0, (off_t)(offset + done), (off_t)step);
		while (rc < 0 && errno == EINTR);
		pp__cancel_restore(state);
		if (rc < 0)
			return errno == ENOMEM ? -ENOMEM : -ENOSPC;
	}
	return 0;
}

int pp__memory_commit(const struct pp__segment *segment, uint64_t offset, uint64_t size)
{
	int rc = pp__memory_commit_at(segment->shared.base + offset, size);

	return rc == -EINVAL ? commit_through_fd(segment, offset, size) : rc;
}

void pp__memory_discard(const struct pp__shared *shared, uint64_t offset, uint64_t size)
{
	if (pp__memory_opener)
		pp__memory_opener(shared->base + offset, size);
	madvise(shared->base + offset, size, MADV_REMOVE);
}

static int fill_header(struct pp__segment *segment, uint32_t max_workers)
{
	struct pp__header *h = (struct pp__header *)(void *)segment->shared.base;
	struct pp__header draft = { .magic = PP__MAGIC, .format = PP__FORMAT, .size = segment->size };
	int rc;

	if (getrandom(&draft.nonce, sizeof draft.nonce, 0) != (ssize_t)sizeof draft.nonce)
		return -EAGAIN;
	lay_out(&draft, max_workers);
	find_areas(&segment->shared, segment->shared.base, &draft);
	segment->needs_fd = pp__memory_commit_at(h, PP__PAGE) == -EINVAL;
	rc = pp__memory_commit(segment, 0, PP__PAGE);
	if (rc < 0)
		return rc;
	*h = draft;
	rc = pp__memory_commit(segment, h->control, PP__PAGE);
	if (rc < 0)
		return rc;
	rc = pp__memory_commit(segment, h->workers, h->entries * sizeof(struct pp__worker));
	if (rc < 0)
		return rc;
	return pp__memory_commit(segment, h->tallies, PP__TALLIES(h->entries) * sizeof(struct pp__tally));
}

/* An eighth of what the file system has in all, if that is bounded. */
static uint64_t warm_max(int fd)
{
	struct statvfs fs;
	uint64_t size = fstatvfs(fd, &fs) == 0 ? (uint64_t)fs.f_blocks * fs.f_frsize : 0;

	return size && size / 8 < WARM_MAX ? size / 8 : WARM_MAX;
}

static int create_with(struct pp__segment *segment, enum pp__backing backing, uint32_t max_workers)
{
	struct stat st;
	int rc;

	*segment = (struct pp__segment){ .backing = backing, .fd = open_object(backing) };
	if (segment->fd < 0)
		return errno == EMFILE || errno == ENFILE || errno == ENOMEM ? -errno : -ENOSPC;
	rc = map_object(segment);
	if (rc == 0) {
		/* A core dump would hold it all, and delay the news of a crash; a child would write into it. */
		madvise(segment->shared.base, segment->size, MADV_DONTDUMP);
		rc = madvise(segment->shared.base, segment->size, MADV_DONTFORK) < 0 ? -ENOMEM : 0;
	}
	if (rc == 0 && fstat(segment->fd, &st) < 0)
		rc = -ENOMEM;
	if (rc == 0) {
		segment->dev = st.st_dev;
		segment->ino = st.st_ino;
		segment->warm_max = warm_max(segment->fd);
		rc = fill_header(segment, max_workers);
	}
	if (rc < 0)
		pp__segment_destroy(segment);
	return rc;
}

int pp__segment_create(struct pp__segment *segment, unsigned backings, uint32_t max_workers)
{
	int rc = -EINVAL;

	for (unsigned backing = PP__BACKING_TMPFILE; backing <= PP__BACKING_NAMED; backing <<= 1) {
		if (!(backings & backing))
			continue;
		if (backing == PP__BACKING_TMPFILE && backings & PP__BACKING_MEMFD && shm_is_small())
			continue;
		rc = create_with(segment, (enum pp__backing)backing, max_workers);
		if (rc == 0 || rc == -EMFILE || rc == -ENFILE || rc == -EFBIG)
			break;
	}
	return rc;
}

void pp__segment_close_fd(struct pp__segment *segment)
{
	int state = pp__cancel_hold();

	if (segment->fd >= 0 && !segment->needs_fd)
		close(segment->fd);
	pp__cancel_restore(state);
	if (!segment->needs_fd)
		segment->fd = -1;
}

/* Unless its number is a file of the application by now. */
static void close_for_good(struct pp__segment *segment)
{
	struct stat st;

	if (segment->fd >= 0 && segment->ino && fstat(segment->fd, &st) == 0
	    && (st.st_dev != segment->dev || st.st_ino != segment->ino))
		segment->fd = -1;
	segment->needs_fd = false;
	pp__segment_close_fd(segment);
}

void pp__segment_destroy(struct pp__segment *segment)
{
	if (segment->size)
		munmap(segment->shared.base, segment->size);
	segment->size = 0;
	close_for_good(segment);
}

void pp__segment_forget(const struct pp__segment *segment)
{
	munmap(segment->shared.base, segment->size);
}

void pp__segment_disown(struct pp__segment *segment)
{
	pp__segment_forget(segment);
	close_for_good(segment);
}

int pp__segment_map_again(const struct pp__segment *segment)
{
	void *p = mmap(segment->shared.base, segment->size, PROT_READ | PROT_WRITE,
	               MAP_SHARED | MAP_NORESERVE | MAP_FIXED, segment->fd, 0);

	if (p == MAP_FAILED)
		return -ENOMEM;
	madvise(p, segment->size, MADV_DONTDUMP);
	return 0;
}

int pp__segment_restrict(const struct pp__shared *shared)
{
	uint64_t size = shared->header->size;

	if (madvise(shared->base, size, MADV_DONTFORK) < 0)
		return -ENOMEM;
	return mprotect(shared->base, shared->header->control, PROT_READ) < 0 ? -ENOMEM : 0;
}
