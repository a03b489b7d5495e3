/* SPDX-License-Identifier: MIT */
/* Version, and texts for the errors that this library returns. */
#include <errno.h>
#include "procpool.h"

int pp_version(void)
{
	return PP_VERSION;
}

const char *pp_strerror(int error)
{
	if (error >= 0)
		return "success";
	switch (-(error + 1) + 1u) {             /* INT_MIN has no negative */
	case EINVAL:     return "invalid argument";
	case ENOMEM:     return "out of memory or address space";
	case ENOSPC:     return "shared memory is full";
	case EFBIG:      return "the file size limit (RLIMIT_FSIZE) is below what shared memory needs";
	case EAGAIN:     return "not now: no process or thread can be had, or as many tasks as allowed are pending";
	case ETIMEDOUT:  return "timed out";
	case ESHUTDOWN:  return "the executor has been shut down";
	case EPIPE:      return "the pool is broken";
	case ECHILD:     return "not in a forked child or a worker";
	case EFAULT:     return "the function is not code that the workers have";
	case EDEADLK:    return "not from one of the executor's own callbacks";
	case ENOTSUP:    return "not of an executor with these options, or not in this build";
	case ECANCELED:  return "the initializer failed";
	case EMFILE:     return "too many open files in this process";
	case ENFILE:     return "too many open files in the system";
	case EBADF:      return "one of the descriptors is not open";
	case ENOTCONN:   return "the executor's way to its supervisor was closed";
	case ENODATA:    return "nothing is known of the worker's end";
	case EIO:        return "the stream has had an error";
	case EBADMSG:    return "the result was overwritten in shared memory";
	default:         return "unknown error";
	}
}
