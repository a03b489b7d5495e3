/* SPDX-License-Identifier: MIT */
/*
 * Counts the words of text files in worker processes, and tells which are the most frequent.
 *
 * The files are read once, one behind the other, into memory that the workers will share, before there are any. A map
 * takes it in pieces, cut between words: an item is where a piece stands, so no text is copied on the way to a task. A
 * task returns its counts in place, and a word is where it stands in the text, so none is copied on the way back either.
 * The parent adds them up as they come.
 *
 * A word is a run of letters (ASCII, upper case as lower case) and of bytes above 127.
 *
 * Exit status: 0 all was counted, 1 a task failed, 2 bad usage or something could not be read.
 */
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <getopt.h>
#include <procpool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PIECE_SIZE ((size_t)65536)

struct word {
	const unsigned char *text;       /* its first occurrence; NULL: this place of the table is free */
	size_t               length;
	uint64_t             count;
};

struct table {
	struct word *words;              /* open addressing, at most half full */
	size_t       room;               /* a power of two */
	size_t       n;
};

/* What a task returns: an array of these. */
struct tally {
	uint64_t offset;                 /* in the text */
	uint64_t length;
	uint64_t count;
};

/* What a task is given. */
struct piece {
	uint64_t offset, size;
};

struct file {
	char  *path;
	size_t size;
};

struct text {
	struct file   *files;
	size_t         n;
	size_t         size;             /* of all, with a newline behind each */
	unsigned char *bytes;
};

struct settings {
	size_t piece;
	size_t top;
	int    serial;
};

/* ------------------------------------------------------------------ counting: in the workers, or in one process */

static unsigned char fold(unsigned char c)
{
	if (c >= 'A' && c <= 'Z')
		return (unsigned char)(c - 'A' + 'a');
	return (c >= 'a' && c <= 'z') || c > 127 ? c : 0;
}

static bool is_same(const struct word *word, const unsigned char *text, size_t length)
{
	size_t i = 0;

	if (word->length != length)
		return false;
	while (i < length && fold(word->text[i]) == fold(text[i]))
		i++;
	return i == length;
}

/* FNV-1a. */
static uint64_t hash(const unsigned char *text, size_t length)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (size_t i = 0; i < length; i++)
		h = (h ^ fold(text[i])) * 0x100000001b3u;
	return h ^ h >> 32;
}

static struct word *find(const struct table *table, const unsigned char *text, size_t length)
{
	size_t i = (size_t)hash(text, length) & (table->room - 1);

	while (table->words[i].text && !is_same(&table->words[i], text, length))
		i = (i + 1) & (table->room - 1);
	return &table->words[i];
}

static int grow(struct table *table)
{
	struct table larger = { .room = table->room ? 2 * table->room : 1024, .n = table->n };

	larger.words = calloc(larger.room, sizeof *larger.words);
	if (!larger.words)
		return -ENOMEM;
	for (size_t i = 0; i < table->room; i++) {
		if (table->words[i].text)
			*find(&larger, table->words[i].text, table->words[i].length) = table->words[i];
	}
	free(table->words);
	*table = larger;
	return 0;
}

static int add(struct table *table, const unsigned char *text, size_t length, uint64_t count)
{
	struct word *word;
	int rc = 2 * table->n < table->room ? 0 : grow(table);

	if (rc < 0)
		return rc;
	word = find(table, text, length);
	if (!word->text) {
		*word = (struct word){ text, length, 0 };
		table->n++;
	}
	word->count += count;
	return 0;
}

static int count_words(struct table *table, const unsigned char *bytes, size_t size)
{
	int rc = 0;

	for (size_t i = 0, start; rc == 0 && i < size; i++) {
		if (!fold(bytes[i]))
			continue;
		for (start = i; i < size && fold(bytes[i]); i++)
			;
		rc = add(table, &bytes[start], i - start, 1);
	}
	return rc;
}

/* Set before there are workers, so each of them has it. */
static const unsigned char *shared_text;

static void return_table(pp_task *task, const struct table *table)
{
	struct tally *tally = pp_return_alloc(task, table->n * sizeof *tally);

	for (size_t i = 0; tally && i < table->room; i++) {
		const struct word *word = &table->words[i];

		if (word->text)
			*tally++ = (struct tally){ (uint64_t)(word->text - shared_text), word->length, word->count };
	}
}

static int count_piece(pp_task *task, const void *data, size_t size)
{
	struct table table = { .n = 0 };
	struct piece piece = { 0, 0 };
	int rc;

	memcpy(&piece, data, size < sizeof piece ? size : sizeof piece);
	rc = count_words(&table, shared_text + piece.offset, piece.size);
	if (rc < 0)
		pp_raise(task, rc, "%s", pp_strerror(rc));
	else
		return_table(task, &table);
	free(table.words);
	return rc;
}

/* ------------------------------------------------------------------ pieces to tasks, and back */

/* The end of the piece that starts there: at least so much further, and not within a word. */
static size_t piece_end(const struct text *text, size_t start, size_t piece)
{
	size_t end = text->size - start > piece ? start + piece : text->size;

	while (end < text->size && fold(text->bytes[end]))
		end++;
	return end;
}

struct pieces {
	const struct text *text;
	size_t             least, start;
	struct piece       now;
};

static int next_piece(const void **data, size_t *size, void *pieces_)
{
	struct pieces *pieces = pieces_;
	size_t end;

	if (pieces->start == pieces->text->size)
		return 0;
	end = piece_end(pieces->text, pieces->start, pieces->least);
	pieces->now = (struct piece){ pieces->start, end - pieces->start };
	pieces->start = end;
	*data = &pieces->now;
	*size = sizeof pieces->now;
	return 1;
}

/* The words of a worker that has gone wild may be anywhere: only those within the text count. */
static int add_tallies(struct table *table, const struct text *text, const pp_outcome *outcome)
{
	const struct tally *tally = outcome->data;
	int rc = 0;

	for (size_t n = outcome->size / sizeof *tally; rc == 0 && n > 0; n--, tally++) {
		if (tally->offset >= text->size || tally->length > text->size - tally->offset)
			return -EBADMSG;
		rc = add(table, text->bytes + tally->offset, tally->length, tally->count);
	}
	return rc;
}

static int add_outcome(struct table *table, const struct text *text, const pp_outcome *outcome)
{
	char line[512];

	if (outcome->kind == PP_RETURNED)
		return add_tallies(table, text, outcome);
	pp_outcome_describe(outcome, line, sizeof line);
	fprintf(stderr, "wordcount: %s\n", line);
	return 1;
}

static int count_parallel(pp_executor *executor, const struct text *text, size_t least, struct table *table)
{
	pp_map_options options = PP_MAP_OPTIONS_INIT;
	struct pieces pieces = { .text = text, .least = least };
	const pp_outcome *outcome;
	pp_map *map;
	int rc, more = 0;

	options.unordered = 1;
	rc = pp_map_create(executor, &options, count_piece, next_piece, &pieces, &map);
	while (rc == 0 && (more = pp_map_next(map, NULL, &outcome)) > 0)
		rc = add_outcome(table, text, outcome);
	pp_map_free(map);
	return rc ? rc : more;
}

/* ------------------------------------------------------------------ files to text */

static int add_file(struct text *text, const FTSENT *entry)
{
	struct file *files = reallocarray(text->files, text->n + 1, sizeof *files);
	struct file file = { .size = (size_t)entry->fts_statp->st_size };

	if (!files)
		return -ENOMEM;
	text->files = files;
	file.path = strdup(entry->fts_path);
	if (!file.path)
		return -ENOMEM;
	text->files[text->n++] = file;
	text->size += file.size + 1;
	return 0;
}

/* Returns the exit status that is due to it. */
static int complain(const char *path, int error)
{
	fprintf(stderr, "wordcount: %s: %s\n", path, strerror(error));
	return 2;
}

static int add_entry(struct text *text, const FTSENT *entry)
{
	switch (entry->fts_info) {
	case FTS_F:
		return add_file(text, entry);
	case FTS_DNR:
	case FTS_ERR:
	case FTS_NS:
		return complain(entry->fts_path, entry->fts_errno);
	case FTS_DEFAULT:
		return entry->fts_level == FTS_ROOTLEVEL ? complain(entry->fts_path, EINVAL) : 0;
	default:
		return 0;
	}
}

static int by_name(const FTSENT **a, const FTSENT **b)
{
	return strcmp((*a)->fts_name, (*b)->fts_name);
}

/* Links are followed where they are arguments. In directories they would make that files are counted twice. */
static int add_trees(struct text *text, char *const *paths)
{
	FTS *tree = fts_open(paths, FTS_PHYSICAL | FTS_COMFOLLOW | FTS_NOCHDIR, by_name);
	FTSENT *entry;
	int rc = 0;

	if (!tree)
		return -errno;
	while (rc == 0 && (entry = fts_read(tree)))
		rc = add_entry(text, entry);
	fts_close(tree);
	return rc;
}

/* A file that has become shorter than it was ends in newlines, which are no words. */
static int read_file(const struct file *file, unsigned char *bytes)
{
	int fd = open(file->path, O_RDONLY | O_CLOEXEC);
	size_t done = 0;
	ssize_t n = 1;
	int rc = 0;

	if (fd < 0)
		return complain(file->path, errno);
	while (done < file->size && (n = read(fd, bytes + done, file->size - done)) > 0)
		done += (size_t)n;
	memset(bytes + done, '\n', file->size + 1 - done);
	if (n < 0)
		rc = complain(file->path, errno);
	close(fd);
	return rc;
}

static int read_files(struct text *text, void *bytes)
{
	size_t done = 0;
	int rc = 0;

	text->bytes = bytes;
	for (size_t i = 0; rc == 0 && i < text->n; i++) {
		rc = read_file(&text->files[i], text->bytes + done);
		done += text->files[i].size + 1;
	}
	return rc;
}

/* ------------------------------------------------------------------ the report */

static int by_letters(const struct word *a, const struct word *b)
{
	for (size_t i = 0; i < a->length && i < b->length; i++) {
		if (fold(a->text[i]) != fold(b->text[i]))
			return fold(a->text[i]) < fold(b->text[i]) ? -1 : 1;
	}
	return (a->length > b->length) - (a->length < b->length);
}

static int by_count(const void *one, const void *other)
{
	const struct word *a = one, *b = other;

	if (a->count != b->count)
		return a->count > b->count ? -1 : 1;
	return by_letters(a, b);
}

static void print_word(const struct word *word)
{
	printf("%8llu ", (unsigned long long)word->count);
	for (size_t i = 0; i < word->length; i++)
		putchar(fold(word->text[i]));
	putchar('\n');
}

static int report(struct table *table, const struct text *text, size_t top, double seconds)
{
	uint64_t words = 0;
	size_t n = 0;

	for (size_t i = 0; i < table->room; i++) {
		if (!table->words[i].text)
			continue;
		words += table->words[i].count;
		table->words[n++] = table->words[i];
	}
	if (n > 0)
		qsort(table->words, n, sizeof *table->words, by_count);
	for (size_t i = 0; i < n && i < top; i++)
		print_word(&table->words[i]);
	printf("%llu words, %zu different ones, in %zu files\n", (unsigned long long)words, n, text->n);
	printf("%.1f MB/s\n", seconds > 0 ? (double)text->size / 1e6 / seconds : 0.0);
	if (fflush(stdout) == EOF || ferror(stdout))
		return complain("stdout", errno);
	return 0;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ------------------------------------------------------------------ the two ways */

static int run_serial(const struct settings *settings, struct text *text)
{
	struct table table = { .n = 0 };
	unsigned char *bytes = malloc(text->size + 1);
	int rc = bytes ? read_files(text, bytes) : -ENOMEM;
	double start = now();

	if (rc == 0)
		rc = count_words(&table, text->bytes, text->size);
	if (rc == 0)
		rc = report(&table, text, settings->top, now() - start);
	free(table.words);
	free(bytes);
	return rc;
}

/* The workers are started first, so that the figure is about counting. */
static int run_workers(const struct settings *settings, const struct text *text)
{
	pp_options options = PP_OPTIONS_INIT;
	struct table table = { .n = 0 };
	pp_executor *executor;
	double start;
	int rc;

	options.flags = PP_START_ALL;
	rc = pp_executor_create(&executor, &options);
	start = now();
	if (rc == 0)
		rc = count_parallel(executor, text, settings->piece, &table);
	if (rc == 0)
		rc = report(&table, text, settings->top, now() - start);
	free(table.words);
	pp_executor_free(executor);
	return rc;
}

/* From here on nobody may write there: a task that does crashes alone. */
static int run_parallel(const struct settings *settings, struct text *text)
{
	void *bytes = mmap(NULL, text->size + 1, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int rc;

	if (bytes == MAP_FAILED)
		return -errno;
	rc = read_files(text, bytes);
	shared_text = bytes;
	if (rc == 0 && mprotect(bytes, text->size + 1, PROT_READ) < 0)
		rc = -errno;
	if (rc == 0)
		rc = run_workers(settings, text);
	munmap(bytes, text->size + 1);
	return rc;
}

static int run(const struct settings *settings, char *const *paths)
{
	struct text text = { .n = 0 };
	int rc = add_trees(&text, paths);

	if (rc == 0)
		rc = settings->serial ? run_serial(settings, &text) : run_parallel(settings, &text);
	for (size_t i = 0; i < text.n; i++)
		free(text.files[i].path);
	free(text.files);
	if (rc < 0)
		fprintf(stderr, "wordcount: %s\n", pp_strerror(rc));
	return rc < 0 ? 2 : rc;
}

/* ------------------------------------------------------------------ the command line */

static int parse_size(const char *text, size_t *size)
{
	char *end;

	errno = 0;
	*size = strtoul(text, &end, 10);
	return errno == 0 && *text >= '0' && *text <= '9' && *end == '\0' && *size > 0 ? 0 : -EINVAL;
}

static int usage(FILE *stream, int status)
{
	static const char text[] =
		"usage: wordcount [--serial] [--piece BYTES] [--top N] [FILE|DIRECTORY ...]\n"
		"Counts the words of text files in worker processes, and prints the most frequent ones.\n"
		"  --serial       in one process, without workers\n"
		"  --piece BYTES  per task, at least; 65536 by default\n"
		"  --top N        how many words are printed; 10 by default\n"
		"Without a FILE: /usr/share/common-licenses.\n";

	return fputs(text, stream) < 0 ? 2 : status;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "help", no_argument, NULL, 'h' }, { "serial", no_argument, NULL, 's' },
		{ "piece", required_argument, NULL, 'p' }, { "top", required_argument, NULL, 't' }, { NULL, 0, NULL, 0 }
	};
	static char licenses[] = "/usr/share/common-licenses";
	static char *const licenses_only[] = { licenses, NULL };
	struct settings settings = { PIECE_SIZE, 10, 0 };
	int option, rc = 0;

	while (rc == 0 && (option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'h')
			return usage(stdout, 0);
		if (option == 's')
			settings.serial = 1;
		else if (option == 'p')
			rc = parse_size(optarg, &settings.piece);
		else
			rc = option == 't' ? parse_size(optarg, &settings.top) : -EINVAL;
	}
	if (rc < 0)
		return usage(stderr, 2);
	return run(&settings, optind < argc ? argv + optind : licenses_only);
}
