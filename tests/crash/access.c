/* SPDX-License-Identifier: MIT */
/*
 * Which instructions touch shared memory. Before each step the instruction's memory operand is worked out from its bytes
 * and the registers. That knows the general form of an operand only, not which instruction has one: where it errs, it lists
 * an instruction that touches nothing, which is one more place to switch at. Left out are the forms with a 0x62 prefix:
 * only copies of long results have them.
 */
#include "access.h"
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/user.h>

#define CODE_BYTES 16

static bool read_code(pid_t pid, uintptr_t at, unsigned char *code)
{
	for (size_t i = 0; i < CODE_BYTES; i += sizeof(long)) {
		long word = ptrace(PTRACE_PEEKTEXT, pid, (void *)(at + i), NULL);
		memcpy(code + i, &word, sizeof word);
	}
	return ptrace(PTRACE_PEEKTEXT, pid, (void *)at, NULL) != -1;
}

static uintptr_t register_of(const struct user_regs_struct *r, unsigned number)
{
	const unsigned long long values[] = { r->rax, r->rcx, r->rdx, r->rbx, r->rsp, r->rbp, r->rsi, r->rdi,
	                                      r->r8, r->r9, r->r10, r->r11, r->r12, r->r13, r->r14, r->r15 };

	return (uintptr_t)values[number & 15];
}

/* The operand that a ModRM byte describes; 0: a register, or relative to the code. high: bits 3 of index and base. */
static uintptr_t operand(const struct user_regs_struct *r, const unsigned char *p, bool high_index, bool high_base)
{
	unsigned mod = *p >> 6, base = *p & 7u, index, scale;
	uintptr_t address = 0;
	int32_t far;
	bool has_base = true;

	if (mod == 3 || (mod == 0 && base == 5))
		return 0;
	p++;
	if (base == 4) {
		index = (*p >> 3 & 7u) | (unsigned)high_index << 3;
		scale = *p >> 6;
		base = *p++ & 7u;
		has_base = base != 5 || mod != 0;
		address = index == 4 ? 0 : register_of(r, index) << scale;
	}
	if (has_base)
		address += register_of(r, base | (unsigned)high_base << 3);
	if (mod == 1)
		return address + (uintptr_t)(intptr_t)(signed char)*p;
	memcpy(&far, p, sizeof far);
	return mod == 2 || !has_base ? address + (uintptr_t)(intptr_t)far : address;
}

/* Without a memory operand: push and pop, jumps, immediate loads; and lea, which only computes. */
static bool is_plain(unsigned char opcode)
{
	return (opcode >= 0x50 && opcode <= 0x5f) || (opcode >= 0x70 && opcode <= 0x7f) || (opcode >= 0xb0 && opcode <= 0xbf)
	       || opcode == 0x8d || opcode == 0x90 || opcode == 0xc3 || opcode == 0xe8 || opcode == 0xe9 || opcode == 0xeb;
}

static bool touches(const struct user_regs_struct *r, const unsigned char *p, uintptr_t low, uintptr_t high)
{
	bool high_index = false, high_base = false;
	uintptr_t at;

	while (*p && strchr("\x66\x67\xf0\xf2\xf3\x2e\x3e", *p))
		p++;
	if ((*p & 0xf0) == 0x40) {
		high_index = *p & 2;
		high_base = *p & 1;
		p++;
	}
	if (*p == 0xa4 || *p == 0xa5 || *p == 0xaa || *p == 0xab)
		return (r->rdi >= low && r->rdi < high) || (r->rsi >= low && r->rsi < high);
	if (*p == 0x64 || *p == 0x62 || is_plain(*p))
		return false;
	if (*p == 0xc5) {
		p += 3;
	} else if (*p == 0xc4) {
		high_index = !(p[1] & 0x40);
		high_base = !(p[1] & 0x20);
		p += 4;
	} else if (*p == 0x0f) {
		if (p[1] >= 0x80 && p[1] <= 0x8f)
			return false;
		p += p[1] == 0x38 || p[1] == 0x3a ? 3 : 2;
	} else {
		p++;
	}
	at = operand(r, p, high_index, high_base);
	return at >= low && at < high;
}

static void add_step(struct access_list *list, uintptr_t at)
{
	if (list->step_count == list->room) {
		list->room = list->room ? 2 * list->room : 4096;
		list->steps = realloc(list->steps, list->room * sizeof *list->steps);
		list->accesses = realloc(list->accesses, list->room * sizeof *list->accesses);
		if (!list->steps || !list->accesses)
			abort();
	}
	list->steps[list->step_count++] = at;
}

/* How often a breakpoint there is met on the way to the last step: where the process stood at first does not count. */
static unsigned hits(const struct access_list *list)
{
	uintptr_t at = list->steps[list->step_count - 1];
	unsigned n = 0;

	for (unsigned i = 1; i < list->step_count; i++)
		n += list->steps[i] == at;
	return n;
}

enum stepper access_record(struct access_list *list, pid_t pid, uintptr_t low, uintptr_t high, uintptr_t end)
{
	struct user_regs_struct regs;
	unsigned char code[CODE_BYTES];
	enum stepper rc;

	list->n = list->step_count = 0;
	do {
		if (ptrace(PTRACE_GETREGS, pid, NULL, &regs) < 0)
			return STEPPER_DEAD;
		add_step(list, (uintptr_t)regs.rip);
		if (list->step_count > 1 && read_code(pid, (uintptr_t)regs.rip, code)
		    && ((code[0] == 0x0f && code[1] == 0x05) || touches(&regs, code, low, high)))
			list->accesses[list->n++] = (struct access){ (uintptr_t)regs.rip, hits(list) };
		rc = stepper_step(pid);
	} while (rc == STEPPER_OK && stepper_instruction(pid) != end);
	return rc;
}

void access_free(struct access_list *list)
{
	free(list->accesses);
	free(list->steps);
	*list = (struct access_list){ .n = 0 };
}
