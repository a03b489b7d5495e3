/* SPDX-License-Identifier: MIT */
/*
 * Fuzzing of what the parent and the supervisor read from memory that workers can write. Each input is bytes for one of
 * the targets below: it fills cells, lines, stacks, rings or messages from them, calls what reads these, and holds what
 * comes back against what must be true whatever stands there. Nothing is forked: executors are of PP_INLINE, whose
 * segment is that of any other, and say that they are not for as long as they are read from.
 *
 * fuzz-functions.txt lists the functions that validate, with what each reads; the item of `make check-crash` prints how
 * many of their lines the corpus reaches.
 */
#ifndef TESTS_CRASH_FUZZ_H
#define TESTS_CRASH_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include "pool.h"

/* What is left of the input; what is read beyond its end is zero. */
struct feed { const uint8_t *at; size_t left; };

void     feed_bytes(struct feed *feed, void *to, size_t n);
uint8_t  feed_u8(struct feed *feed);
uint16_t feed_u16(struct feed *feed);
uint32_t feed_u32(struct feed *feed);
uint64_t feed_u64(struct feed *feed);

#define MUST(condition) ((condition) ? (void)0 : fuzz_fail(#condition, __FILE__, __LINE__))
_Noreturn void fuzz_fail(const char *what, const char *file, int line);

#define GROUND_ENTRIES PP__ENTRIES(3)
#define GROUND_SLOTS   64u       /* that there are, for all that anybody knows; an input uses fewer */
#define GROUND_SMALL   64u       /* units that a forged claim names, from the first on */
#define GROUND_BIG     16u

/* An executor, and what its shared half is like between two inputs. */
struct ground {
	pp_executor *ex;
	struct pp__control control;
	struct pp__worker  lines[GROUND_ENTRIES];
	struct pp__ring_writer rings[PP__LEVELS];
	uint32_t levels;
	uint64_t wanted;
	uint32_t used;           /* slots that this input took */
	bool touched;            /* by this input */
};

/* Even: as it comes. Odd: with checksums, copies, accounting and self-dispatch. */
struct ground *ground_for(unsigned choice);
/* A task that has run and returned, or raised; the caller's to free. */
struct spec { uint32_t size; int32_t code; };
pp_future *ground_ended(struct ground *ground, const struct spec *spec, unsigned kind);
enum { ARGUMENT_INLINE, ARGUMENT_COPIED, ARGUMENT_BLOCK, ARGUMENT_RETRIES, ARGUMENT_KINDS };
/* One that is READY, and that nobody will ever take. */
pp_future *ground_open(struct ground *ground, unsigned retries, int64_t deadline_ms);
/* Units of that claim, which is brought within what may be touched, get the name of the slot. Returns the claim. */
uint64_t ground_name_units(struct ground *ground, const pp_future *future, uint64_t claim);
void ground_units_used(struct ground *ground);
/* Reads and returns all that can be asked of a future without waiting, and holds it against the rules. */
void ground_read(struct ground *ground, pp_future *future);
void ground_check_outcome(const struct ground *ground, const pp_outcome *outcome);
uint32_t ground_touch(const void *bytes, size_t size);           /* reads every byte */
/* Whether bytes are the library's own, or this slot's. box: of the outcome. */
bool ground_is_own(const struct ground *ground, const pp_future *future, const struct pp__box *box, const void *bytes,
                   size_t size);

/* fuzz_outcome.c */
void fuzz_outcome(struct feed *feed);    /* one future's cell, extension, units, and its owner's line */
void fuzz_frames(struct feed *feed);     /* registers and a stack, for the unwinder */
/* fuzz_map.c */
void fuzz_map(struct feed *feed);        /* the rooms and words of chunks */
/* fuzz_pool.c */
void fuzz_stacks(struct feed *feed);     /* the stacks of completions and notices, and the words that they lead to */
void fuzz_pool(struct feed *feed);       /* control, lines, rings and tallies */
void fuzz_units(struct feed *feed);      /* the words of units */
/* fuzz_supervisor.c */
void fuzz_burial(struct feed *feed);     /* what the supervisor reads of workers that live and that have died */
void fuzz_messages(struct feed *feed);   /* its socket */

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
