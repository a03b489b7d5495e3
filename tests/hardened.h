/* SPDX-License-Identifier: MIT */
/* What the tests of PP_HARDENED share: an innocent task, whose result can be told from any other. */
#ifndef TESTS_HARDENED_H
#define TESTS_HARDENED_H

#include <stdlib.h>
#include <string.h>
#include "support.h"

#define MIB ((size_t)1 << 20)

static const size_t sizes[] = { 0, 1, 16, 17, 256, 257, 4096, 4097, 65536, 65537, MIB };
enum { SIZES = sizeof sizes / sizeof *sizes };

static inline pp_executor *hardened(int n, unsigned flags)
{
	pp_options options = support_options(n);

	options.flags = PP_HARDENED | flags;
	return support_create(&options);
}

static inline unsigned char byte_at(size_t size, size_t i)
{
	return (unsigned char)(i * 31 + size * 7 + (i >> 9));
}

static inline void fill(unsigned char *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++)
		bytes[i] = byte_at(size, i);
}

static inline void assert_filled(pp_future *future, size_t size)
{
	const pp_outcome *o = support_outcome(future);
	const unsigned char *bytes = o->data;
	bool right = true;

	ck_assert_msg(o->kind == PP_RETURNED, "%zu: %s %d", size, pp_kind_name(o->kind), o->code);
	ck_assert_uint_eq(o->size, size);
	for (size_t i = 0; i < size; i++)
		right &= bytes[i] == byte_at(size, i);
	ck_assert_msg(right, "wrong bytes of %zu", size);
	pp_future_free(future);
}

struct innocent { size_t size; bool in_place; };

static inline int task_innocent(pp_task *task, const void *data, size_t size)
{
	struct innocent in;
	unsigned char *bytes;
	int rc;

	memcpy(&in, data, size);
	if (in.in_place) {
		bytes = pp_return_alloc(task, in.size);
		if (!bytes)
			return 1;
		fill(bytes, in.size);
		return 0;
	}
	bytes = malloc(in.size + 1);
	if (!bytes)
		return 1;
	fill(bytes, in.size);
	rc = pp_return(task, bytes, in.size);
	free(bytes);
	return rc;
}

static inline pp_future *submit_innocent(pp_executor *ex, size_t size, bool in_place)
{
	return support_submit(ex, task_innocent, PP_BYTES((struct innocent){ size, in_place }));
}

#endif
