/* SPDX-License-Identifier: MIT */
/* See mapped.h. */
#include "mapped.h"
#include <string.h>

int next_number(const void **data, size_t *size, void *numbers_)
{
	struct numbers *numbers = numbers_;

	if (numbers->taken == numbers->n) {
		*data = numbers->odd_data;
		*size = numbers->odd_size;
		return numbers->stops_with;
	}
	numbers->now = numbers->taken++;
	*data = &numbers->now;
	*size = sizeof numbers->now;
	return 1;
}

pp_map *map_over(pp_executor *ex, pp_fn *fn, struct numbers *numbers, size_t chunk, bool unordered)
{
	pp_map_options options = PP_MAP_OPTIONS_INIT;
	pp_map *map = NULL;

	options.chunk = chunk;
	options.unordered = unordered;
	ck_assert_int_eq(pp_map_create(ex, &options, fn, next_number, numbers, &map), 0);
	return map;
}

const pp_outcome *next_of(pp_map *map, int wanted)
{
	const pp_outcome *outcome = NULL;
	uint64_t index = UINT64_MAX;

	ck_assert_int_eq(pp_map_next(map, &index, &outcome), 1);
	ck_assert_uint_eq(index, wanted);
	return outcome;
}

void assert_number(const pp_outcome *outcome, int wanted)
{
	int x;

	ck_assert_int_eq(outcome->kind, PP_RETURNED);
	ck_assert_uint_eq(outcome->size, sizeof x);
	memcpy(&x, outcome->data, sizeof x);
	ck_assert_int_eq(x, wanted);
}

void assert_end(pp_map *map, int code)
{
	const pp_outcome *outcome = (const void *)map;

	for (int again = 0; again < 2; again++) {
		ck_assert_int_eq(pp_map_next(map, NULL, &outcome), code);
		ck_assert_ptr_null(outcome);
	}
}

void finish_map(pp_map *map, int code, pp_executor *ex)
{
	assert_end(map, code);
	pp_map_free(map);
	pp_executor_free(ex);
}
