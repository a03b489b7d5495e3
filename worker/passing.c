/* SPDX-License-Identifier: MIT */
/*
 * The supervisor's half of passing descriptors, and the worker's. The supervisor keeps them from their submit until a
 * worker has started the task, which no other one does after it, and asks for them; or until the slot's word says
 * that it will never be: ended, or in use by a later future. That is looked at whenever the supervisor looks at
 * anything, so what was cancelled, or died before it asked, needs no message of its own.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "policy.h"
#include "slot.h"
#include "supervisor.h"
#include "worker.h"

#define MESSAGES_PER_LOOK 256            /* then something else has its turn */

struct pp__held {
	uint32_t slot, generation;
	uint32_t count;
	int32_t  error;                  /* they got lost, and why; negative errno */
	int      fds[PP_TASK_FDS_MAX];
};

static void close_all(const int *fds, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		close(fds[i]);
}

static void drop(struct pp__supervisor *s, uint32_t i)
{
	close_all(s->held[i].fds, s->held[i].count);
	s->held[i] = s->held[--s->held_count];
}

/* A word of an earlier generation is that of a submit which has not made it READY yet. */
static bool is_over(const struct pp__supervisor *s, const struct pp__held *held)
{
	uint64_t word = pp__slot_look(s->shared->cells + held->slot);
	uint32_t later = (pp__word_generation(word) - held->generation) & PP__GENERATION_MASK;

	return later ? later <= PP__GENERATION_MASK / 2 : pp__state_is_end(pp__word_state(word));
}

static void sweep(struct pp__supervisor *s)
{
	for (uint32_t i = s->held_count; i > 0; i--)
		if (is_over(s, &s->held[i - 1]))
			drop(s, i - 1);
}

static struct pp__held *new_held(struct pp__supervisor *s)
{
	uint32_t room = s->held_room ? 2 * s->held_room : 16;
	struct pp__held *held;

	if (s->held_count == s->held_room) {
		held = reallocarray(s->held, room, sizeof *held);
		if (!held)
			return NULL;
		s->held = held;
		s->held_room = room;
	}
	return &s->held[s->held_count++];
}

/* n: how many came, or why they did not. Without memory nothing is known of them, and their worker is told so. */
static void keep(struct pp__supervisor *s, const struct pp__pass_message *message, const int *fds, int n)
{
	struct pp__held *held = message->slot < atomic_load(&s->shared->header->slots) ? new_held(s) : NULL;

	if (!held) {
		close_all(fds, n > 0 ? (uint32_t)n : 0);
		return;
	}
	*held = (struct pp__held){ .slot = message->slot, .generation = message->generation,
	                           .count = n > 0 ? (uint32_t)n : 0, .error = n < 0 ? n : 0 };
	memcpy(held->fds, fds, sizeof *fds * held->count);
}

static void answer(struct pp__supervisor *s, const struct pp__pass_message *message, int socket)
{
	const struct pp__policy *policy;
	struct pp__pass_message m = { PP__PASS_ANSWER, message->slot, message->generation, -ENOMEM };
	uint32_t i = 0;

	while (i < s->held_count
	       && (s->held[i].slot != message->slot || s->held[i].generation != message->generation))
		i++;
	if (i == s->held_count) {
		pp__pass_send(socket, &m, NULL, 0, MSG_DONTWAIT);
		return;
	}
	m.error = s->held[i].error;
	pp__pass_send(socket, &m, s->held[i].fds, s->held[i].count, MSG_DONTWAIT);
	policy = pp__policy_of(s->shared, message->slot);
	if (!policy || !policy->retries)
		drop(s, i);              /* else the next attempt may ask for them too */
}

/* A GET whose socket got lost needs no answer: the worker sees the end of it. */
static void serve(struct pp__supervisor *s, const struct pp__pass_message *message, const int *fds, int n)
{
	if (message->kind == PP__PASS_PUT) {
		keep(s, message, fds, n);
		return;
	}
	if (message->kind == PP__PASS_GET && n == 1)
		answer(s, message, fds[0]);
	close_all(fds, n > 0 ? (uint32_t)n : 0);
}

void pp__pass_serve(struct pp__supervisor *s)
{
	struct pp__pass_message message;
	int fds[PP_TASK_FDS_MAX], n;

	if (s->boot.pass_in < 0)
		return;
	sweep(s);                        /* makes room for those to come */
	for (int i = 0; i < MESSAGES_PER_LOOK; i++) {
		n = pp__pass_receive(s->boot.pass_in, &message, fds, MSG_DONTWAIT);
		if (n >= 0 || n == -EMFILE)
			serve(s, &message, fds, n);
		else if (n != -EBADMSG)
			break;
	}
	sweep(s);
}

void pp__pass_forget(struct pp__supervisor *s)
{
	if (s->boot.pass_in >= 0)
		close(s->boot.pass_in);
	while (s->held_count)
		drop(s, s->held_count - 1);
}

/* ------------------------------------------------------------------ the worker */

/* The supervisor closes its own after it has answered, and then the socket: that is waited for, so that no copy is
 * left when the task has ended. */
static int ask(struct pp__self *self, uint32_t slot, uint32_t generation, int *fds)
{
	struct pp__pass_message message = { PP__PASS_GET, slot, generation, 0 }, end;
	int pair[2], n;

	if (!pp__pass_is_same(&self->pass))
		return -ENOTCONN;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	while ((n = pp__pass_send(self->pass.fd, &message, &pair[1], 1, 0)) == -EAGAIN)
		poll(NULL, 0, 1);
	close(pair[1]);
	if (n == 0)
		n = pp__pass_receive(pair[0], &message, fds, 0);
	if (n >= 0)
		pp__pass_receive(pair[0], &end, NULL, 0);
	close(pair[0]);
	if (n == -EPIPE)
		return -EMFILE;          /* the supervisor had no room for the socket */
	return n < 0 ? n : message.error ? message.error : n;
}

int pp__pass_fetch(struct pp__self *self, uint32_t slot, uint32_t generation)
{
	int fds[PP_TASK_FDS_MAX], n = ask(self, slot, generation, fds);

	for (int i = 0; i < n; i++)
		self->fds[i] = pp__pass_note(fds[i]);
	self->fd_count = n > 0 ? (uint32_t)n : 0;
	return n < 0 ? n : 0;
}

void pp__pass_close_all(struct pp__self *self)
{
	for (uint32_t i = 0; i < self->fd_count; i++)
		pp__pass_close(&self->fds[i]);
	self->fd_count = 0;
}

int pp_task_fd(const pp_task *task, unsigned i)
{
	return task && i < task->self->fd_count ? task->self->fds[i].fd : -EINVAL;
}
