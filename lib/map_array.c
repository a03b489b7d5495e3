/* SPDX-License-Identifier: MIT */
/* Map in its plain form: array in, array out. A map without an order, because each result has its place. */
#include <errno.h>
#include <string.h>
#include "pool.h"

struct array {
	const char *in;
	char       *out;
	size_t      in_size, out_size, n, taken;
	int        *kinds;
};

static int next_input(const void **data, size_t *size, void *array_)
{
	struct array *array = array_;

	if (array->taken == array->n)
		return 0;
	*data = array->in_size ? array->in + array->taken * array->in_size : NULL;
	*size = array->in_size;
	array->taken++;
	return 1;
}

/* 1: the item did not return, or not what it should. */
static int store(const struct array *array, uint64_t index, const pp_outcome *outcome)
{
	bool fits = outcome->kind == PP_RETURNED && outcome->size == array->out_size;

	if (array->kinds)
		array->kinds[index] = outcome->kind == PP_RETURNED && !fits ? PP_RAISED : outcome->kind;
	if (fits && array->out_size)
		memcpy(array->out + index * array->out_size, outcome->data, array->out_size);
	return !fits;
}

static bool is_array(const void *items, size_t size, size_t n)
{
	size_t bytes;

	return !__builtin_mul_overflow(size, n, &bytes) && bytes <= SIZE_MAX / 2 && (items || !bytes);
}

int64_t pp_map_array(pp_executor *ex, pp_fn *fn, const void *in, size_t in_size, void *out, size_t out_size, size_t n,
                     int *kinds)
{
	struct array array = { in, out, in_size, out_size, n, 0, kinds };
	pp_map_options options = PP_MAP_OPTIONS_INIT;
	const pp_outcome *outcome;
	int64_t failed = 0;
	uint64_t index;
	pp_map *map;
	int rc;

	if (!pp__is_original_process())
		return -ECHILD;
	if (!ex || !fn || !is_array(in, in_size, n) || !is_array(out, out_size, n) || n > SIZE_MAX / 2 / sizeof(int))
		return -EINVAL;
	if (kinds)
		memset(kinds, 0, n * sizeof *kinds);
	options.unordered = 1;
	rc = pp_map_create(ex, &options, fn, next_input, &array, &map);
	if (rc < 0)
		return rc;
	while ((rc = pp_map_next(map, &index, &outcome)) == 1)
		failed += store(&array, index, outcome);
	pp_map_free(map);
	return rc < 0 ? rc : failed;
}
