/* SPDX-License-Identifier: MIT */
/*
 * Which code the workers have: what was mapped executable, from the program and its libraries, when the executor was
 * created. A function that was loaded later is an address at which a worker has something else, or nothing.
 */
#ifndef PP_LIB_CODE_H
#define PP_LIB_CODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "procpool.h"

struct pp__code_range { uintptr_t from, size; };

struct pp__code {
	struct pp__code_range first;     /* mostly the program's own */
	size_t count, room;
	struct pp__code_range *ranges;   /* all */
};

struct pp__code *pp__code_note(void);            /* the executable ranges of now; NULL: no memory */
void pp__code_free(struct pp__code *code);
bool pp__code_is_in_any(const struct pp__code *code, pp_fn *fn);

static inline bool pp__code_is_known(const struct pp__code *code, pp_fn *fn)
{
	return (uintptr_t)fn - code->first.from < code->first.size || pp__code_is_in_any(code, fn);
}

#endif
