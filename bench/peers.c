/* SPDX-License-Identifier: MIT */
/* The list of libraries that this build has. */
#include "peers.h"
#include <string.h>

const struct bench_side *const bench_peers_c[] = {
#ifdef HAVE_UV
	&bench_uv,
#endif
#ifdef HAVE_GLIB
	&bench_glib,
#endif
#ifdef HAVE_TBB
	&bench_tbb,
#endif
#ifdef HAVE_ASIO
	&bench_asio,
#endif
	NULL
};

const struct bench_side *bench_peer(const char *name)
{
	for (size_t i = 0; bench_peers_c[i]; i++)
		if (strncmp(bench_peers_c[i]->name, name, strlen(name)) == 0)
			return bench_peers_c[i];
	return NULL;
}
