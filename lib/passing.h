/* SPDX-License-Identifier: MIT */
/*
 * Descriptors as arguments. They travel by SCM_RIGHTS: parent ──PUT──▶ supervisor, and the worker that has started the
 * task asks for them (GET) with one end of a socketpair of its own, on which the supervisor answers. Both kinds of
 * messages go through the one queue of one socket, so a PUT, which is sent before its slot is made READY, is always
 * read before a GET for it. Nobody waits for anybody who may die: an answer to a dead worker fails, a worker whose
 * supervisor dies is killed, and the parent never blocks in a send. What waits in the supervisor is known by slot and
 * generation, so a late message meets nothing.
 */
#ifndef PP_LIB_PASSING_H
#define PP_LIB_PASSING_H

#include <stdbool.h>
#include <stdint.h>
#include "procpool.h"

enum pp__pass_kind { PP__PASS_PUT = 1, PP__PASS_GET, PP__PASS_ANSWER };

struct pp__pass_message {
	uint32_t kind;
	uint32_t slot, generation;
	int32_t  error;                  /* of an answer: 0 or negative errno */
};

/* A descriptor that others may close, and its number may then be that of another file: known by what it was. */
struct pp__pass_end {
	int      fd;                     /* -1: none */
	uint64_t dev, ino;
};

struct pp__pass_end pp__pass_note(int fd);
bool pp__pass_is_same(const struct pp__pass_end *end);           /* it still is that file */
void pp__pass_close(struct pp__pass_end *end);                   /* if it still is */

/* flags: MSG_DONTWAIT or 0. 0 or negative errno; -EAGAIN: full is the queue, or what the kernel lets be under way. */
int  pp__pass_send(int socket, const struct pp__pass_message *message, const int *fds, uint32_t count, int flags);
/*
 * Receives a message and at most PP_TASK_FDS_MAX descriptors; fds may be NULL where none can come. How many came;
 * -EMFILE: there was no room for all of them, those that came are closed; -EPIPE: the other side is closed; -EBADMSG: it
 * is no message; another negative errno. The message is valid with the first two.
 */
int  pp__pass_receive(int socket, struct pp__pass_message *message, int *fds, int flags);

#endif
