/* SPDX-License-Identifier: MIT */
/*
 * Matches the lines of a file against patterns with PCRE2, one task per pattern, and tells of each how many lines match.
 * Patterns are strangers' input: one may backtrack for longer than anybody lives, another may eat all memory, and a third
 * meets a bug of this program. PCRE2's own limits are lifted here, so that it is the pool that stops them: by a timeout, by a
 * cap on memory, and where the process dies, by having been another one. The other patterns' counts are complete.
 *
 *     regex_guard [-t MS] [-m MIB] PATTERNS FILE
 *
 * PATTERNS has one pattern per line. A pattern with a callout, (?C1) to (?C9), counts how often it comes by there; there
 * is a table of what these are called, and it ends too early.
 *
 * Exit status: 0 every pattern was matched to its end, 1 some were not, 2 bad usage or something could not be read.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <errno.h>
#include <getopt.h>
#include <pcre2.h>
#include <procpool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct pattern { char *text; pp_future *future; };

struct guard {
	pp_executor    *executor;
	struct pattern *patterns;
	size_t          n;
	int64_t         timeout_ms, memory;
};

/* As of pp_executor_create: the workers have it without a copy. */
static char *text;
static size_t text_size;

/* ------------------------------------------------------------------ in the workers */

struct point { const char *name; unsigned passed; };
static struct point first = { "first", 0 }, second = { "second", 0 };
static struct point *const points[10] = { NULL, &first, &second };

/* The planted bug: nobody has looked whether the table goes so far. */
static int count_callout(pcre2_callout_block *block, void *context)
{
	struct point *point = points[block->callout_number % 10];

	(void)context;
	point->passed++;
	return 0;
}

static pcre2_match_context *unlimited(void)
{
	pcre2_match_context *context = pcre2_match_context_create(NULL);

	if (!context)
		return NULL;
	pcre2_set_match_limit(context, UINT32_MAX);
	pcre2_set_depth_limit(context, UINT32_MAX);
	pcre2_set_heap_limit(context, UINT32_MAX);
	pcre2_set_callout(context, count_callout, NULL);
	return context;
}

/* How many lines match; an error of PCRE2. */
static int64_t count_lines(const pcre2_code *code, pcre2_match_data *match, pcre2_match_context *context)
{
	int64_t n = 0;

	for (size_t at = 0; at < text_size; ) {
		const char *end = memchr(text + at, '\n', text_size - at);
		size_t size = end ? (size_t)(end - text) - at : text_size - at;
		int rc = pcre2_match(code, (PCRE2_SPTR)text + at, size, 0, 0, match, context);
		if (rc < 0 && rc != PCRE2_ERROR_NOMATCH)
			return rc;
		n += rc >= 0;
		at += size + 1;
	}
	return n;
}

/* What the task has allocated goes with a worker that dies; one that lives gives it back. */
static int match_pattern(pp_task *task, const void *data, size_t size)
{
	pcre2_match_context *context = unlimited();
	pcre2_match_data *match = NULL;
	PCRE2_UCHAR message[128];
	PCRE2_SIZE where;
	int error;
	pcre2_code *code = pcre2_compile(data, size, 0, &error, &where, NULL);
	int64_t n;

	if (code)
		match = pcre2_match_data_create_from_pattern(code, NULL);
	n = code && match && context ? count_lines(code, match, context) : code ? PCRE2_ERROR_NOMEMORY : error;
	pcre2_match_data_free(match);
	pcre2_match_context_free(context);
	pcre2_code_free(code);
	if (code && n >= 0)
		return pp_return(task, PP_BYTES(n));
	pcre2_get_error_message(code ? (int)n : error, message, sizeof message);
	return pp_raise(task, code ? (int)n : error, "%s", (const char *)message);
}

/* ------------------------------------------------------------------ the parent */

static int read_file(const char *path, char **bytes, size_t *size)
{
	FILE *file = fopen(path, "rb"), *memory = open_memstream(bytes, size);
	char piece[65536];
	size_t n;
	int error = !file || !memory ? errno : 0;

	while (!error && (n = fread(piece, 1, sizeof piece, file)) > 0)
		if (fwrite(piece, 1, n, memory) != n)
			error = errno;
	if (!error && ferror(file))
		error = EIO;
	if (file)
		fclose(file);
	if (memory && fclose(memory) != 0 && !error)
		error = errno;
	if (error)
		fprintf(stderr, "regex_guard: %s: %s\n", path, strerror(error));
	return error ? -1 : 0;
}

static int read_patterns(struct guard *guard, const char *path)
{
	char *bytes, *line, *rest;
	size_t size;

	if (read_file(path, &bytes, &size) < 0)
		return -1;
	guard->patterns = calloc(size + 1, sizeof *guard->patterns);
	for (rest = bytes; guard->patterns && (line = strsep(&rest, "\n")); )
		if (*line && !(guard->patterns[guard->n++].text = strdup(line)))
			break;
	free(bytes);
	return guard->patterns ? 0 : -1;
}

static int start(struct guard *guard)
{
	pp_options options = PP_OPTIONS_INIT;

	options.grace_ms = PP_NONE;              /* a match cannot be asked to end */
	options.timeout_ms = guard->timeout_ms;
	options.limits.resident_bytes = guard->memory;
	return pp_executor_create(&guard->executor, &options);
}

static int submit_all(struct guard *guard)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < guard->n; i++) {
		struct pattern *pattern = guard->patterns + i;
		rc = pp_submit(guard->executor, match_pattern, pattern->text, strlen(pattern->text), &pattern->future);
	}
	return rc;
}

/* Where it crashed: the first frame that debug information knows a line of. */
static void print_place(pp_future *future)
{
	const pp_postmortem *dead;

	if (pp_future_postmortem(future, 5000, &dead) < 0)
		return;
	for (size_t i = 0; i < dead->frame_count; i++) {
		const pp_frame *frame = dead->frames + i;
		const char *file = frame->file ? strrchr(frame->file, '/') : NULL;
		if (!frame->file)
			continue;
		printf(", in %s at %s:%d", frame->function ? frame->function : "?", file ? file + 1 : frame->file,
		       frame->line);
		return;
	}
}

/* 1: it was matched to its end. */
static int print_pattern(const struct pattern *pattern)
{
	const pp_outcome *outcome;
	int64_t n;
	int rc = pp_future_result(pattern->future, PP_FOREVER, &outcome);

	printf("%-32.32s ", pattern->text);
	if (rc == 0 && pp_outcome_value(outcome, PP_BYTES(n)) == 0) {
		printf("%lld lines\n", (long long)n);
		return 1;
	}
	printf("%s: %s", rc < 0 ? "error" : pp_kind_name(outcome->kind), rc < 0 ? pp_strerror(rc) : outcome->message);
	if (rc == 0 && outcome->kind == PP_CRASHED)
		print_place(pattern->future);
	putchar('\n');
	return 0;
}

static int run(struct guard *guard)
{
	size_t complete = 0;
	int rc = start(guard);

	if (rc == 0)
		rc = submit_all(guard);
	for (size_t i = 0; rc == 0 && i < guard->n; i++)
		complete += (size_t)print_pattern(guard->patterns + i);
	if (rc < 0)
		fprintf(stderr, "regex_guard: %s\n", pp_strerror(rc));
	for (size_t i = 0; i < guard->n; i++) {
		pp_future_free(guard->patterns[i].future);
		free(guard->patterns[i].text);
	}
	pp_executor_free(guard->executor);
	free(guard->patterns);
	if (rc < 0 || fflush(stdout) != 0 || ferror(stdout))
		return 2;
	return complete == guard->n ? 0 : 1;
}

static int usage(void)
{
	fputs("usage: regex_guard [-t MILLISECONDS] [-m MIB] PATTERNS FILE\n", stderr);
	return 2;
}

/* 0: it is no number of that kind. */
static int64_t number(const char *digits, int64_t most)
{
	char *end;
	long long n;

	errno = 0;
	n = strtoll(digits, &end, 10);
	return errno || end == digits || *end || n < 1 || n > most ? 0 : n;
}

int main(int argc, char **argv)
{
	struct guard guard = { .timeout_ms = 2000, .memory = INT64_C(64) << 20 };
	int option, status;

	while ((option = getopt(argc, argv, "t:m:")) != -1) {
		if (option == 't')
			guard.timeout_ms = number(optarg, 1000000);
		else if (option == 'm')
			guard.memory = number(optarg, 1000000) << 20;
		if (option == '?' || !guard.timeout_ms || !guard.memory)
			return usage();
	}
	if (argc - optind != 2)
		return usage();
	if (read_patterns(&guard, argv[optind]) < 0 || read_file(argv[optind + 1], &text, &text_size) < 0)
		return 2;
	status = run(&guard);
	free(text);
	return status;
}
