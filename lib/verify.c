/* SPDX-License-Identifier: MIT */
/*
 * The bytes of a result against the checksum that its worker took, before anybody sees them. Read in place they can still
 * be changed afterwards by a worker gone wild; a copy cannot, so with PP_COPY_OUT the copy is made first, and it is the
 * copy that is checked. Apart from outcome.c, whose way without checksums is to stay as short as it was.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "pool.h"
#include "sum.h"

static int verify(const pp_executor *ex, struct pp__box *box, const unsigned char **bytes, uint64_t size, uint32_t sum)
{
	const unsigned char *place = *bytes;

	if (!place)
		return 0;
	if ((ex->flags & PP_COPY_OUT) && size && place != box->bytes) {
		box->owned = malloc(size);
		if (!box->owned)
			return -ENOMEM;
		box->place = place;
		*bytes = memcpy(box->owned, place, size);
	}
	if (pp__sum(*bytes, size) == sum)
		return 0;
	*bytes = NULL;
	return 0;
}

int pp__box_read_verified(const pp_executor *ex, struct pp__box *box, int code, const unsigned char *bytes,
                          uint64_t size, uint32_t sum)
{
	if ((ex->flags & PP_CHECKSUM) && verify(ex, box, &bytes, size, sum) < 0)
		return -ENOMEM;
	pp__box_read(box, code, bytes, size);
	return 0;
}
