/* SPDX-License-Identifier: MIT */
/*
 * What tasks print, kept for the post-mortem of the one that takes its worker with it. Each worker's stdout and stderr are
 * one file in memory that the supervisor makes before the fork and keeps; so what was written is there whatever the
 * worker dies of, and needs no reader while it lives.
 */
#ifndef PP_WORKER_CAPTURE_H
#define PP_WORKER_CAPTURE_H

#include <stdint.h>

struct pp__self;
struct pp__supervisor;

/* Before the fork: makes the file of this entry. 0, also where the options do not ask for it, or negative errno. */
int  pp__capture_make(struct pp__supervisor *s, uint32_t entry);
void pp__capture_drop(struct pp__supervisor *s, uint32_t entry);
/* Not more than some MiB, however much is printed: gives up all but the last of it. At each tick. */
void pp__capture_trim(const struct pp__supervisor *s, uint32_t entry);
/* The last bytes, at most so many as the options say; returns how many. to NULL: only says. */
uint32_t pp__capture_read(const struct pp__supervisor *s, uint32_t entry, unsigned char *to, uint32_t most);

/* In a fresh worker: those of others are closed. 0 or negative errno. */
int  pp__capture_enter(struct pp__self *self, struct pp__supervisor *s);
/* A task begins, and nothing of what was printed before is its own. */
void pp__capture_begin(const struct pp__self *self);

#endif
