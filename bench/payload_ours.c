/* SPDX-License-Identifier: MIT */
/*
 * Our side of the payloads. In place: a block that lasts, which tasks may write, as the argument and, by
 * pp_return_argument, as the result; with argument only a block that they may not write. Copying: pp_submit copies
 * in; the task makes its answer in memory of its own, and pp_return copies it out. Every outcome and every sum is
 * checked.
 */
#include <stdlib.h>
#include <string.h>
#include "payload.h"

struct ours {
	pp_executor *executor;
	pp_block    *mutable, *constant;
	const void  *source;
	size_t       size;
	uint64_t     sum, place_sum;             /* of the source and of the constant block; of the mutable one */
};

static int flip_in_place(pp_task *task, const void *data, size_t size)
{
	void *argument = pp_task_argument(task, NULL);

	(void)data;
	if (!argument)
		return 1;
	payload_flip(argument, argument, size);
	return pp_return_argument(task, 0, size);
}

static int flip(pp_task *task, const void *data, size_t size)
{
	static void *own;                        /* the size is always the same */

	if (!own)
		own = payload_fill(size);
	payload_flip(own, data, size);
	return pp_return(task, own, size);
}

static int sum(pp_task *task, const void *data, size_t size)
{
	uint64_t result = payload_sum(data, size);

	return pp_return(task, &result, sizeof result);
}

static void must(int rc, const char *what)
{
	if (rc < 0)
		bench_die("%s: %s", what, pp_strerror(rc));
}

static pp_block *make_block(const struct ours *o, unsigned flags)
{
	pp_block *block;

	must(pp_block_create(o->executor, o->size, flags, &block), "pp_block_create");
	memcpy(pp_block_data(block), o->source, o->size);
	return block;
}

static void *ours_open(const char *name, const void *source, size_t size, int cpu)
{
	struct ours *o = calloc(1, sizeof *o);

	(void)name;
	if (!o)
		bench_die("no memory");
	o->executor = bench_executor_on(cpu, 1);
	o->source = source;
	o->size = size;
	o->sum = o->place_sum = payload_sum(source, size);
	o->mutable = make_block(o, PP_BLOCK_MUTABLE);
	o->constant = make_block(o, 0);
	return o;
}

static pp_future *submit(const struct ours *o, enum payload_mode mode)
{
	pp_future *future;

	if (mode == PAYLOAD_ECHO_PLACE)
		must(pp_submit_block(o->executor, NULL, flip_in_place, o->mutable, 0, o->size, &future), "pp_submit_block");
	else if (mode == PAYLOAD_ARGUMENT_PLACE)
		must(pp_submit_block(o->executor, NULL, sum, o->constant, 0, o->size, &future), "pp_submit_block");
	else
		must(pp_submit(o->executor, mode == PAYLOAD_ECHO_COPY ? flip : sum, o->source, o->size, &future),
		     "pp_submit");
	return future;
}

static uint64_t take(const struct ours *o, enum payload_mode mode, pp_future *future)
{
	size_t size = payload_echoes(mode) ? o->size : sizeof(uint64_t);
	const pp_outcome *outcome;
	uint64_t got;

	must(pp_future_result(future, PP_FOREVER, &outcome), "pp_future_result");
	if (outcome->kind != PP_RETURNED || outcome->size != size)
		bench_die("a wrong result: %s, %zu bytes", pp_kind_name(outcome->kind), outcome->size);
	if (payload_echoes(mode))
		got = payload_sum(outcome->data, size);
	else
		memcpy(&got, outcome->data, sizeof got);
	pp_future_free(future);
	return got;
}

static int64_t ours_run(void *context, enum payload_mode mode, long trips)
{
	struct ours *o = context;
	int64_t start = bench_now();

	for (long i = 0; i < trips; i++) {
		uint64_t got = take(o, mode, submit(o, mode));
		payload_check("procpool", mode, o->size, mode == PAYLOAD_ECHO_PLACE ? o->place_sum : o->sum, got);
		if (mode == PAYLOAD_ECHO_PLACE)
			o->place_sum = got;
	}
	return bench_now() - start;
}

static void ours_close(void *context)
{
	struct ours *o = context;

	pp_block_free(o->mutable);
	pp_block_free(o->constant);
	pp_executor_free(o->executor);
	free(o);
}

const struct payload_side payload_ours = { "procpool", ours_open, ours_run, ours_close, 15 };
