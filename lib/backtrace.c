/* SPDX-License-Identifier: MIT */
/*
 * Unwinding and symbols by libdw of elfutils, which is loaded when the first backtrace is asked for: a program that never
 * asks does not pay for it at its start, nor its workers at every fork. Memory is read from the copy of the stack alone:
 * what this process has at those addresses is its own. Nothing is fetched from a server of debug information. Without
 * libdw there is one frame, with module and offset.
 */
#include "backtrace.h"
#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef HAVE_LIBDW
# include <elfutils/libdwfl.h>
#endif

static bool forbidden;

void pp__backtrace_forbid(bool forbid)
{
	forbidden = forbid;
}

void pp__frames_free(pp_frame *frames, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free((void *)(uintptr_t)frames[i].module);
		free((void *)(uintptr_t)frames[i].function);
		free((void *)(uintptr_t)frames[i].file);
	}
}

static const char *text(const char *s)
{
	return s && *s ? strdup(s) : NULL;
}

/* The dynamic linker's own knowledge: the module, and a name if it is exported. */
static void name_by_linker(pp_frame *frame)
{
	struct link_map *map = NULL;
	Dl_info info;

	if (!dladdr1((void *)frame->address, &info, (void **)&map, RTLD_DL_LINKMAP))
		return;
	frame->module = text(info.dli_fname);
	frame->offset = frame->address - (map ? map->l_addr : 0);
	frame->function = text(info.dli_sname);
}

static size_t first_frame(const uint64_t *registers, pp_frame *frames)
{
#if PP__REGISTERS
	frames[0] = (pp_frame){ .address = (uintptr_t)registers[PP__REGISTER_PC] };
	name_by_linker(&frames[0]);
	return 1;
#else
	(void)registers;
	(void)frames;
	return 0;
#endif
}

#if defined HAVE_LIBDW && PP__REGISTERS

#define LIBDW(X) X(dwfl_begin) X(dwfl_end) X(dwfl_report_end) X(dwfl_linux_proc_report) X(dwfl_linux_proc_find_elf) \
	X(dwfl_build_id_find_debuginfo) X(dwfl_attach_state) X(dwfl_getthread_frames) X(dwfl_frame_pc) \
	X(dwfl_thread_state_registers) X(dwfl_thread_state_register_pc) X(dwfl_addrmodule) X(dwfl_module_info) \
	X(dwfl_module_getelf) X(dwfl_module_addrname) X(dwfl_module_getsrc) X(dwfl_lineinfo)
#define POINTER(name) __typeof__(&name) name;
#define FIND(name) && (dw.name = (__typeof__(&name))(uintptr_t)dlsym(library, #name)) != NULL

static struct { LIBDW(POINTER) } dw;

static bool load(void)
{
	static enum { UNTRIED, LOADED, MISSING } state;
	void *library;

	if (forbidden)
		return false;
	if (state == UNTRIED) {
		library = dlopen("libdw.so.1", RTLD_NOW | RTLD_LOCAL);
		state = library LIBDW(FIND) ? LOADED : MISSING;
	}
	return state == LOADED;
}

struct walk {
	const struct pp__stack_copy *stack;
	uint64_t  registers[PP__REGISTERS];
	pp_frame *frames;
	size_t    count;
	bool      ran_out;               /* of the stack that was saved */
};

static pid_t next_thread(Dwfl *dwfl, void *walk, void **argument)
{
	(void)dwfl;
	if (*argument)
		return 0;
	*argument = walk;
	return 1;
}

static bool get_thread(Dwfl *dwfl, pid_t tid, void *walk, void **argument)
{
	(void)dwfl;
	*argument = walk;
	return tid == 1;
}

static bool read_word(const struct pp__stack_copy *stack, uint64_t address, uint64_t *word)
{
	if (address < stack->base || stack->size < sizeof *word || address - stack->base > stack->size - sizeof *word)
		return false;
	memcpy(word, stack->bytes + (address - stack->base), sizeof *word);
	return true;
}

static bool read_memory(Dwfl *dwfl, Dwarf_Addr address, Dwarf_Word *result, void *walk_pointer)
{
	struct walk *walk = walk_pointer;

	(void)dwfl;
	if (read_word(walk->stack, address, result))
		return true;
	walk->ran_out = true;
	return false;
}

static bool set_registers(Dwfl_Thread *thread, void *walk_pointer)
{
	const struct walk *walk = walk_pointer;
	const uint64_t *r = walk->registers;

	dw.dwfl_thread_state_register_pc(thread, r[PP__REGISTER_PC]);
# if defined __x86_64__
	return dw.dwfl_thread_state_registers(thread, 0, PP__REGISTERS, r);
# else
	return dw.dwfl_thread_state_registers(thread, 0, 8, r) && dw.dwfl_thread_state_registers(thread, 19, 13, r + 8);
# endif
}

/* The name as in the source, if this program has what C++ programs have. */
static const char *function_name(const char *name)
{
	char *(*demangle)(const char *, char *, size_t *, int *) =
		(char *(*)(const char *, char *, size_t *, int *))(uintptr_t)dlsym(RTLD_DEFAULT, "__cxa_demangle");
	char *plain = NULL;

	if (name && strncmp(name, "_Z", 2) == 0 && demangle)
		plain = demangle(name, NULL, NULL, NULL);
	return plain ? plain : text(name);
}

/* The instruction of a caller is the one before its return address. */
static void name_frame(Dwfl *dwfl, pp_frame *frame, bool is_caller)
{
	Dwarf_Addr at = frame->address - (is_caller ? 1 : 0), bias = 0;
	Dwfl_Module *module = dw.dwfl_addrmodule(dwfl, at);
	const char *path = NULL, *name;
	Dwfl_Line *line;

	if (!module)
		return;
	name = dw.dwfl_module_info(module, NULL, NULL, NULL, NULL, NULL, &path, NULL);
	frame->module = text(path ? path : name);
	dw.dwfl_module_getelf(module, &bias);
	frame->offset = frame->address - bias;
	frame->function = function_name(dw.dwfl_module_addrname(module, at));
	line = dw.dwfl_module_getsrc(module, at);
	if (line)
		frame->file = text(dw.dwfl_lineinfo(line, NULL, &frame->line, NULL, NULL, NULL));
}

static int add_frame(Dwfl_Frame *state, void *walk_pointer)
{
	struct walk *walk = walk_pointer;
	bool is_first = false;
	Dwarf_Addr pc;

	if (walk->count == PP__FRAMES_MAX || !dw.dwfl_frame_pc(state, &pc, &is_first))
		return DWARF_CB_ABORT;
	walk->frames[walk->count] = (pp_frame){ .address = (uintptr_t)pc, .is_caller = !is_first };
	walk->count++;
	return DWARF_CB_OK;
}

/* A call of what is no code has no frame to be unwound: its own is as if it were the first instruction of a function. */
static void leave_bad_call(Dwfl *dwfl, struct walk *walk)
{
	uint64_t *r = walk->registers;

	if (dw.dwfl_addrmodule(dwfl, r[PP__REGISTER_PC]))
		return;
	walk->frames[walk->count++] = (pp_frame){ .address = (uintptr_t)r[PP__REGISTER_PC] };
# if defined __x86_64__
	if (read_word(walk->stack, r[PP__REGISTER_SP], &r[PP__REGISTER_PC]))
		r[PP__REGISTER_SP] += sizeof *r;
# else
	r[PP__REGISTER_PC] = r[PP__REGISTER_SP - 1];
# endif
}

static const Dwfl_Thread_Callbacks thread_callbacks = {
	.next_thread = next_thread, .get_thread = get_thread, .memory_read = read_memory,
	.set_initial_registers = set_registers
};

static void walk_frames(Dwfl *dwfl, struct walk *walk)
{
	leave_bad_call(dwfl, walk);
	if (dw.dwfl_attach_state(dwfl, NULL, 1, &thread_callbacks, walk))
		dw.dwfl_getthread_frames(dwfl, 1, add_frame, walk);
	for (size_t i = 0; i < walk->count; i++)
		name_frame(dwfl, &walk->frames[i], walk->frames[i].is_caller);
}

/* false: it could not even begin. */
static bool unwind(struct walk *walk)
{
	const Dwfl_Callbacks callbacks = { .find_elf = dw.dwfl_linux_proc_find_elf,
	                                   .find_debuginfo = dw.dwfl_build_id_find_debuginfo };
	Dwfl *dwfl = dw.dwfl_begin(&callbacks);
	bool ok = dwfl && dw.dwfl_linux_proc_report(dwfl, getpid()) == 0 && dw.dwfl_report_end(dwfl, NULL, NULL) == 0;

	if (ok)
		walk_frames(dwfl, walk);
	if (dwfl)
		dw.dwfl_end(dwfl);
	return ok && walk->count;
}

static const char *why_it_ends(const struct walk *walk)
{
	if (walk->count == PP__FRAMES_MAX)
		return "deeper frames are left out";
	if (!walk->stack->size)
		return "the stack could not be saved";
	return walk->ran_out && walk->stack->size > PP__STACK_MAX - 4096 ? "the part of the stack that was saved ends here" : "";
}

size_t pp__backtrace(const uint64_t *registers, const struct pp__stack_copy *stack, pp_frame *frames, const char **note)
{
	struct walk walk = { .stack = stack, .frames = frames };

	memcpy(walk.registers, registers, sizeof walk.registers);
	if (!load()) {
		*note = "libdw is not installed";
		return first_frame(registers, frames);
	}
	if (!unwind(&walk)) {
		*note = "libdw could not read this program";
		return first_frame(registers, frames);
	}
	*note = why_it_ends(&walk);
	return walk.count;
}

#else

size_t pp__backtrace(const uint64_t *registers, const struct pp__stack_copy *stack, pp_frame *frames, const char **note)
{
	(void)stack;
	*note = "built without libdw";
	return first_frame(registers, frames);
}

#endif
