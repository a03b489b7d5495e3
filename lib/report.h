/* SPDX-License-Identifier: MIT */
/*
 * What the parent knows of a death beyond its kind and signal: copies in its own memory, made when the outcome is made,
 * or when somebody first asks.
 */
#ifndef PP_LIB_REPORT_H
#define PP_LIB_REPORT_H

#include "backtrace.h"
#include "death.h"
#include "pool.h"

/* A post-mortem, and all that it points to. */
struct pp__postmortem {
	pp_postmortem shown;
	pp_frame      frames[PP__FRAMES_MAX];
	char         *output;
};

struct pp__report {
	struct pp__crash crash;          /* a copy, if there is one */
	bool             has_crash;
	struct pp__postmortem *postmortem;       /* once made */
};

/* death.c. In words, and with registers, what the box's outcome has of kind, signal, code and address. */
void pp__crash_describe(const pp_future *future, struct pp__box *box, uint64_t word);
/* The record of this end, if it is there: once its owner's incarnation is over. */
bool pp__death_read(const pp_future *future, uint64_t word, struct pp__death *copy);
struct pp__report *pp__report_make(const pp_future *future, uint64_t word);      /* NULL: no memory */
void pp__report_free(struct pp__report *report);         /* NULL is legal */

/* postmortem.c */
void pp__postmortem_free(struct pp__postmortem *postmortem);     /* NULL is legal */

#endif
