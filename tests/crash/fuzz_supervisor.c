/* SPDX-License-Identifier: MIT */
/*
 * The supervisor's half, in this process: workers that are none, of pids that no process can have, so that no signal
 * goes anywhere; their lines and slots forged; then it looks at them, or hears that one has died. waitid and fork are
 * wrapped: the one says who has died, the other that no process can be made.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "fuzz.h"
#include "passing.h"
#include "policy.h"
#include "supervisor.h"

#define NO_PID  0x3fffff00       /* far above PID_MAX_LIMIT */
#define TASKS   4u
#define STEPS   24u

int   __wrap_waitid(idtype_t type, id_t id, siginfo_t *info, int options);
pid_t __wrap_fork(void);

static siginfo_t news;           /* si_pid 0: there is none */

int __wrap_waitid(idtype_t type, id_t id, siginfo_t *info, int options)
{
	(void)options;
	memset(info, 0, sizeof *info);
	if (type == P_ALL || (pid_t)id == news.si_pid)
		*info = news;
	if (type == P_ALL)
		news.si_pid = 0;
	return 0;
}

pid_t __wrap_fork(void)
{
	errno = EAGAIN;
	return -1;
}

struct scene {
	struct ground *ground;
	const struct pp__shared *shared;
	struct pp__supervisor *s;
	pp_future *futures[TASKS];
};

static void forget_captures(struct pp__supervisor *s)
{
	for (uint32_t i = 0; i < GROUND_ENTRIES; i++)
		if (s->children[i].capture)
			close(s->children[i].capture - 1);
}

/* Policies are the parent's: their times are over, where the input says so. */
static void be_late(struct scene *scene, unsigned how)
{
	for (unsigned i = 0; i < TASKS; i++) {
		struct pp__policy *policy = pp__policy_of(scene->shared, scene->futures[i]->slot);
		if (policy && how & 32 && policy->deadline_ns)
			policy->deadline_ns = 1;
		if (policy && how & 64 && policy->retries)
			policy->timeout_ns = 1;
		if (policy && how & 128)
			policy->delay_ns = UINT64_MAX / 8;
	}
}

static void begin(struct scene *scene, struct feed *feed)
{
	static struct pp__supervisor supervisor;
	struct pp__supervisor *s = scene->s = &supervisor;
	unsigned how = feed_u8(feed), more = feed_u8(feed);

	*s = (struct pp__supervisor){ .shared = scene->shared, .pid = NO_PID - 1, .wants_spare = more & 1 };
	s->boot.pass_in = -1;
	s->boot.options.capture_bytes = how & 1 ? 256 : 0;
	s->boot.options.idle_timeout_ms = how & 2 ? 1000 : 0;
	s->boot.options.limits.resident_bytes = how & 4 ? 1 : 0;
	scene->shared->header->grace_ns = how & 8 ? 1 : 0;
	for (uint32_t i = 0; i < GROUND_ENTRIES; i++) {
		s->children[i].pid = how >> 4 & 1 && i > 1 ? 0 : (pid_t)(NO_PID + i);
		s->incarnations[i] = i & 1;
		atomic_store(&scene->shared->workers[i].pid, s->children[i].pid);
		atomic_store(&scene->shared->workers[i].incarnation, i & 1);
		atomic_store(&scene->shared->workers[i].phase, PP__LIVE);
	}
	for (unsigned i = 0; i < TASKS; i++)
		scene->futures[i] = ground_open(scene->ground, i & 1 ? 2 : 0, i == 2 ? 1000000 : 0);
	atomic_store(&scene->shared->header->closing, more & 2 ? PP__CLOSING : PP__OPEN);
	atomic_store(&scene->shared->header->wanted, more & 4 ? 3 : 0);
	be_late(scene, how);
}

/* The word of a task at hand, in any state; its owner an entry of this incarnation, unless the input says otherwise. */
static void forge_task(struct scene *scene, struct feed *feed)
{
	unsigned how = feed_u8(feed);
	const pp_future *future = scene->futures[how % TASKS];
	uint32_t entry = feed_u8(feed) % GROUND_ENTRIES;
	struct pp__cell *cell = pp__cell_of(future);
	uint64_t word = pp__word_of(future, (enum pp__state)(feed_u8(feed) & 31)) | (how & 4 ? PP__WANTS : 0);

	if (how & 8)
		feed_bytes(feed, (char *)cell + sizeof cell->word, sizeof *cell - sizeof cell->word);
	if (how & 16)
		atomic_store(&cell->claim, ground_name_units(scene->ground, future, feed_u64(feed)));
	word |= pp__owner(entry, scene->s->incarnations[entry]);
	atomic_store(&cell->word, how & 32 ? feed_u64(feed) : word);
	atomic_store(&scene->shared->workers[entry].cur, how & 64 ? feed_u32(feed) : future->slot);
	if (how & 128)
		atomic_store(&scene->shared->workers[entry].crash.tag, pp__word_attempt(word));
}

static void forge_line(struct scene *scene, struct feed *feed)
{
	unsigned how = feed_u8(feed);
	struct pp__worker *line = scene->shared->workers + how % GROUND_ENTRIES;
	const pp_future *future = scene->futures[how >> 3 & 3];
	size_t at = feed_u16(feed) % sizeof *line, n = feed_u8(feed) % 64 + 1u;
	unsigned char bytes[64];

	feed_bytes(feed, bytes, sizeof bytes);
	memcpy((char *)line + at, bytes, n < sizeof *line - at ? n : sizeof *line - at);
	if (how & 32)
		atomic_store(&line->stack.claim,
		             ground_name_units(scene->ground, future, atomic_load(&line->stack.claim)));
	if (how & 64)
		line->stack.size %= PP__STACK_MAX + 1;
	if (how & 128)
		*(unsigned *)(void *)&line->life = 0x40000000;   /* FUTEX_OWNER_DIED */
}

static void forge_control(struct scene *scene, struct feed *feed)
{
	struct pp__control *c = scene->shared->control;
	size_t at = feed_u16(feed) % sizeof *c, n = feed_u8(feed) % 32 + 1u;
	unsigned char bytes[32];

	feed_bytes(feed, bytes, sizeof bytes);
	memcpy((char *)c + at, bytes, n < sizeof *c - at ? n : sizeof *c - at);
	atomic_store(&c->supervisor_pid, 0);
}

static void make_output(struct pp__supervisor *s, uint32_t entry)
{
	if (!s->boot.options.capture_bytes || s->children[entry].capture)
		return;
	s->children[entry].capture = memfd_create("fuzz", MFD_CLOEXEC) + 1;
	MUST(write(s->children[entry].capture - 1, "output", 6) == 6);
}

/* Who was killed by hand, or for memory, or has been there for long: what the supervisor knows by itself. */
static void age(struct scene *scene, struct feed *feed)
{
	struct pp__child *child = &scene->s->children[feed_u8(feed) % GROUND_ENTRIES];
	unsigned how = feed_u8(feed);

	child->asked = how & 1;
	child->memory = how & 2 ? PP__MEMORY_KERNEL : PP__MEMORY_NO;
	child->claimed_ns = how & 4 ? 1 : child->claimed_ns;
	child->task_ns = how & 8 ? 1 : child->task_ns;
	child->asked_ns = how & 8 ? 1 : child->asked_ns;
	child->deaf_ns = how & 16 ? 1 : child->deaf_ns;
	child->dying_ns = how & 32 ? 1 : child->dying_ns;
	child->killed_ns = how & 64 ? 1 : child->killed_ns;
	child->term_ns = how & 128 ? 1 : child->term_ns;
}

static void die(struct scene *scene, struct feed *feed)
{
	uint32_t entry = feed_u8(feed) % GROUND_ENTRIES;
	unsigned how = feed_u8(feed);

	make_output(scene->s, entry);
	news.si_pid = scene->s->children[entry].pid;
	news.si_code = how & 1 ? CLD_EXITED : how & 2 ? CLD_DUMPED : CLD_KILLED;
	news.si_status = how >> 2;
	if (how & 128)
		atomic_store(&scene->shared->workers[entry].phase, feed_u8(feed) % (PP__LEAVING + 1));
	pp__reap_all(scene->s);
	MUST(scene->s->children[entry].pid == 0);
}

static void step(struct scene *scene, struct feed *feed)
{
	struct pp__supervisor *s = scene->s;
	unsigned what = feed_u8(feed) % 13;
	uint32_t entry;

	switch (what) {
	case 0: case 1: forge_task(scene, feed); break;
	case 2: case 3: forge_line(scene, feed); break;
	case 4: forge_control(scene, feed); break;
	case 5: age(scene, feed); break;
	case 6: pp__patrol(s); break;
	case 7: pp__patrol_timeout(s); break;
	case 8:
		s->timed_due_ns = 0;
		pp__look_at_timed(s);
		break;
	case 9:
		s->next_start_ns = 0;
		pp__spawn_wanted(s);
		break;
	case 10:
		entry = feed_u8(feed) % GROUND_ENTRIES;
		if (s->children[entry].pid)
			pp__quarantine(s, entry);
		break;
	default: die(scene, feed);
	}
	MUST(pp__seated(s) <= GROUND_ENTRIES);
}

void fuzz_burial(struct feed *feed)
{
	struct ground *g = ground_for(0);
	struct scene scene = { .ground = g, .shared = &g->ex->segment.shared };

	begin(&scene, feed);
	for (unsigned n = 0; n < STEPS && feed->left; n++)
		step(&scene, feed);
	forget_captures(scene.s);
	memset(&news, 0, sizeof news);
	g->ex->inlined = false;
	for (unsigned i = 0; i < TASKS; i++) {
		ground_read(g, scene.futures[i]);
		pp_future_free(scene.futures[i]);
	}
	g->ex->inlined = true;
	scene.shared->header->grace_ns = 0;
	atomic_store(&scene.shared->header->closing, PP__OPEN);
}

/* ------------------------------------------------------------------ the socket */

/* A message of any length, with some descriptors; the first may be a socket to answer on. */
static void send_some(int to, const int *files, struct feed *feed)
{
	unsigned how = feed_u8(feed);
	struct pp__pass_message message[2] = { { .kind = how & 3, .slot = feed_u8(feed), .generation = how >> 2 & 1 } };
	struct iovec part = { message, sizeof message[0] };
	union { struct cmsghdr header; char bytes[CMSG_SPACE(3 * sizeof(int))]; } control = { .bytes = { 0 } };
	struct msghdr header = { .msg_iov = &part, .msg_iovlen = 1 };
	uint32_t count = how >> 3 & 3;

	if (how & 32)
		feed_bytes(feed, message, sizeof message[0]);
	if (how & 64)
		part.iov_len = feed_u8(feed) % (sizeof message + 1);
	if (count) {
		header.msg_control = &control;
		header.msg_controllen = CMSG_SPACE(count * sizeof(int));
		*CMSG_FIRSTHDR(&header) = (struct cmsghdr){ .cmsg_len = CMSG_LEN(count * sizeof(int)),
		                                            .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&header)), files + (how >> 7 & 1), count * sizeof(int));
	}
	sendmsg(to, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void check_held(struct pp__supervisor *s)
{
	MUST(s->held_count <= s->held_room && s->held_room <= 256);
}

/* The lowest number that is free: the same before and after, if nothing was left open. */
static int lowest_free(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	close(fd);
	return fd;
}

void fuzz_messages(struct feed *feed)
{
	struct ground *g = ground_for(0);
	struct scene scene = { .ground = g, .shared = &g->ex->segment.shared };
	int sockets[2], files[4], before = lowest_free();

	begin(&scene, feed);
	MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) == 0);
	MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, files) == 0);
	files[2] = files[3] = open("/dev/null", O_RDONLY | O_CLOEXEC);
	scene.s->boot.pass_in = sockets[0];
	for (unsigned n = 0; n < STEPS && feed->left; n++) {
		unsigned what = feed_u8(feed) % 8;
		if (what < 5)
			send_some(sockets[1], files, feed);
		else if (what == 5)
			forge_task(&scene, feed);
		else
			pp__pass_serve(scene.s);
		check_held(scene.s);
	}
	pp__pass_serve(scene.s);
	pp__pass_forget(scene.s);        /* closes its end */
	MUST(scene.s->held_count == 0);
	free(scene.s->held);
	close(sockets[1]);
	close(files[0]);
	close(files[1]);
	close(files[2]);
	MUST(lowest_free() == before);
	for (unsigned i = 0; i < TASKS; i++)
		pp_future_free(scene.futures[i]);
}
