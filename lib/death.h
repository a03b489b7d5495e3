/* SPDX-License-Identifier: MIT */
/*
 * What is noted of a task that takes its worker with it, beyond the signal in its cell. The crash handler writes a
 * pp__crash into its worker's line, before it settles the future; never into the slot's own memory, where the task's
 * thread may still be storing a result when another thread has crashed. When the worker is confirmed dead the supervisor
 * copies it to the slot's extension, adds what the kernel says of the process, and only then raises the incarnation. So
 * the parent finds it in the line while the incarnation is the dead one's, and in the extension for good after that.
 */
#ifndef PP_LIB_DEATH_H
#define PP_LIB_DEATH_H

#include <stdatomic.h>
#include <stdint.h>

/* By number of the DWARF rules; of aarch64 those that an unwinder and a reader need: x0 to x7, x19 to x30, sp, pc. */
#if defined __x86_64__
# define PP__REGISTERS 17
# define PP__REGISTER_SP 7
# define PP__REGISTER_PC 16
#elif defined __aarch64__
# define PP__REGISTERS 22
# define PP__REGISTER_SP 20
# define PP__REGISTER_PC 21
#else
# define PP__REGISTERS 0
#endif

struct pp__crash {
	_Atomic uint64_t tag;            /* pp__word_attempt of the end that is meant; written last; 0: none */
	int32_t  thread;
	int32_t  sender;                 /* the process that sent the signal; 0: the kernel did, or another cause */
#if PP__REGISTERS
	uint64_t registers[PP__REGISTERS];
#endif
};

/* The top of its stack, saved after it had settled, in a run of units that is noted here and not in the cell, where the
 * task's thread notes that of its result. */
#define PP__STACK_MAX (64u * 1024u)
#define PP__OUTPUT_MAX (64u * 1024u)
struct pp__stack {
	_Atomic uint64_t claim;          /* units.h; 0: none */
	uint64_t base;                   /* the address of its first byte */
	uint32_t size, reserved;
};

/*
 * In the slot's extension, once its worker is dead and while it has not been given to another task. The cell's claim then
 * is that of a run with the stack in it.
 */
struct pp__death {
	uint64_t tag;                    /* as above; other bytes: this is no such record */
	struct pp__crash crash;          /* with the same tag, if there was one */
	uint64_t stack_base;
	uint32_t stack_size;
	uint32_t output_size;            /* of what it printed; stands behind the stack */
	int32_t  wait_status;
	uint32_t reserved;
	uint64_t cpu_ns, peak_rss, faults, switches;
};

#endif
