/* SPDX-License-Identifier: MIT */
/* Sending and receiving: the same code in parent, supervisor and workers. No more is known here than a socket. */
#include "passing.h"
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "sysdep.h"

struct pp__pass_end pp__pass_note(int fd)
{
	struct pp__pass_end end = { .fd = fd };
	struct stat st;

	if (fstat(fd, &st) == 0) {
		end.dev = st.st_dev;
		end.ino = st.st_ino;
	}
	return end;
}

bool pp__pass_is_same(const struct pp__pass_end *end)
{
	struct stat st;

	return end->fd >= 0 && fstat(end->fd, &st) == 0 && st.st_dev == end->dev && st.st_ino == end->ino;
}

void pp__pass_close(struct pp__pass_end *end)
{
	int state = pp__cancel_hold();

	if (pp__pass_is_same(end))
		close(end->fd);
	pp__cancel_restore(state);
	end->fd = -1;
}

union control {
	struct cmsghdr header;           /* for its alignment */
	char bytes[CMSG_SPACE(sizeof(int) * PP_TASK_FDS_MAX)];
};

static void attach(struct msghdr *header, union control *control, const int *fds, uint32_t count)
{
	struct cmsghdr *part;

	memset(control, 0, sizeof *control);
	header->msg_control = control;
	header->msg_controllen = CMSG_SPACE(sizeof(int) * count);
	part = CMSG_FIRSTHDR(header);
	part->cmsg_level = SOL_SOCKET;
	part->cmsg_type = SCM_RIGHTS;
	part->cmsg_len = CMSG_LEN(sizeof(int) * count);
	memcpy(CMSG_DATA(part), fds, sizeof(int) * count);
}

/* ETOOMANYREFS: more are under way than this user may have open. The supervisor takes them out of there. */
int pp__pass_send(int socket, const struct pp__pass_message *message, const int *fds, uint32_t count, int flags)
{
	struct iovec part = { (void *)(uintptr_t)message, sizeof *message };
	struct msghdr header = { .msg_iov = &part, .msg_iovlen = 1 };
	union control control;
	int state = pp__cancel_hold();
	ssize_t n;

	if (count)
		attach(&header, &control, fds, count);
	do
		n = sendmsg(socket, &header, flags | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	pp__cancel_restore(state);
	if (n >= 0)
		return 0;
	if (errno == ETOOMANYREFS || errno == ENOBUFS)
		return -EAGAIN;
	return errno == ECONNRESET ? -EPIPE : -errno;
}

static int take_out(struct msghdr *header, int *fds)
{
	int n = 0;

	for (struct cmsghdr *part = CMSG_FIRSTHDR(header); part; part = CMSG_NXTHDR(header, part)) {
		if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
			continue;
		n = (int)((part->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(part), sizeof(int) * (size_t)n);
	}
	return n;
}

int pp__pass_receive(int socket, struct pp__pass_message *message, int *fds, int flags)
{
	struct iovec part = { message, sizeof *message };
	union control control;
	struct msghdr header = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
	                         .msg_controllen = sizeof control };
	ssize_t size;
	int n;

	do
		size = recvmsg(socket, &header, flags | MSG_CMSG_CLOEXEC);
	while (size < 0 && errno == EINTR);
	if (size < 0)
		return errno == ECONNRESET ? -EPIPE : -errno;
	n = take_out(&header, fds);
	if (size == (ssize_t)sizeof *message && !(header.msg_flags & (MSG_CTRUNC | MSG_TRUNC)))
		return n;
	for (int i = 0; i < n; i++)
		close(fds[i]);
	if (size == 0)
		return -EPIPE;
	return size == (ssize_t)sizeof *message && !(header.msg_flags & MSG_TRUNC) ? -EMFILE : -EBADMSG;
}
