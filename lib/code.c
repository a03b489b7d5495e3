/* SPDX-License-Identifier: MIT */
/*
 * Which code the workers have: what was mapped executable, from the program and its libraries, when the executor was
 * created. A function that was loaded later is an address at which a worker has something else, or nothing.
 */
#include <link.h>
#include <stdlib.h>
#include "pool.h"

struct pp__range { uintptr_t from, to; };
struct pp__code { size_t count, room; struct pp__range *ranges; };

static int note_object(struct dl_phdr_info *info, size_t size, void *context)
{
	struct pp__code *code = context;

	(void)size;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *header = &info->dlpi_phdr[i];
		if (header->p_type != PT_LOAD || !(header->p_flags & PF_X))
			continue;
		if (code->count == code->room) {
			size_t room = code->room ? 2 * code->room : 16;
			struct pp__range *more = realloc(code->ranges, room * sizeof *more);
			if (!more)
				return 1;
			code->ranges = more;
			code->room = room;
		}
		code->ranges[code->count].from = info->dlpi_addr + header->p_vaddr;
		code->ranges[code->count].to = info->dlpi_addr + header->p_vaddr + header->p_memsz;
		code->count++;
	}
	return 0;
}

struct pp__code *pp__code_note(void)
{
	struct pp__code *code = calloc(1, sizeof *code);

	if (code && dl_iterate_phdr(note_object, code) != 0) {
		pp__code_free(code);
		return NULL;
	}
	return code;
}

bool pp__code_is_known(const struct pp__code *code, pp_fn *fn)
{
	for (size_t i = 0; i < code->count; i++)
		if ((uintptr_t)fn >= code->ranges[i].from && (uintptr_t)fn < code->ranges[i].to)
			return true;
	return false;
}

void pp__code_free(struct pp__code *code)
{
	if (!code)
		return;
	free(code->ranges);
	free(code);
}
