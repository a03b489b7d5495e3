/* SPDX-License-Identifier: MIT */
/*
 * What tests of map share: a source of the numbers 0, 1, 2 ..., and assertions on what a map gives.
 */
#ifndef TESTS_MAPPED_H
#define TESTS_MAPPED_H

#include "support.h"

/* After n numbers the source says stops_with, with the odd data and size. */
struct numbers { int n, taken, now; int stops_with; const void *odd_data; size_t odd_size; };

int next_number(const void **data, size_t *size, void *numbers);
pp_map *map_over(pp_executor *ex, pp_fn *fn, struct numbers *numbers, size_t chunk, bool unordered);
/* The next one, which must have this index. */
const pp_outcome *next_of(pp_map *map, int wanted);
void assert_number(const pp_outcome *outcome, int wanted);
/* It says this code, as often as it is asked. */
void assert_end(pp_map *map, int code);
/* The same, and frees the map and the executor. */
void finish_map(pp_map *map, int code, pp_executor *ex);

#endif
