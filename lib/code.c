/* SPDX-License-Identifier: MIT */
#include "code.h"
#include <link.h>
#include <stdlib.h>

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
			struct pp__code_range *more = realloc(code->ranges, room * sizeof *more);
			if (!more)
				return 1;
			code->ranges = more;
			code->room = room;
		}
		code->ranges[code->count].from = info->dlpi_addr + header->p_vaddr;
		code->ranges[code->count].size = header->p_memsz;
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
	if (code && code->count)
		code->first = code->ranges[0];
	return code;
}

bool pp__code_is_in_any(const struct pp__code *code, pp_fn *fn)
{
	for (size_t i = 0; i < code->count; i++)
		if ((uintptr_t)fn - code->ranges[i].from < code->ranges[i].size)
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
