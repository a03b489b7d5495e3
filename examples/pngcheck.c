/* SPDX-License-Identifier: MIT */
/*
 * Decodes PNG files in worker processes and tells what became of each, in the order of the arguments.
 *
 * The decoder is written as if every file were good. There is no setjmp, so libpng calls abort() at the first error: a
 * corrupt file kills the worker that reads it, and that is how the parent learns of it. Memory and the open file need
 * no clean-up on that path, since they go with the process. The files are opened here, and the workers get descriptors:
 * they need no right to open anything.
 *
 * Exit status: 0 all files are good, 1 some are not, 2 bad usage or something could not be read.
 */
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <fts.h>
#include <getopt.h>
#include <png.h>
#include <procpool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

struct picture {
	uint32_t width;
	uint32_t height;
	uint32_t crc;
};

/* Each task that waits has an open file: not more than a process may have. */
#define MAX_PENDING 64

struct file {
	char      *path;
	int        error;                /* why it could not be opened; 0 */
	pp_future *future;
};

struct checker {
	pp_executor *executor;
	struct file *files;
	size_t       n;
	size_t       room;
	size_t       bad;
	int          status;
};

/* ------------------------------------------------------------------ in the workers */

static struct picture measure(png_structp png, png_infop info)
{
	struct picture picture = { png_get_image_width(png, info), png_get_image_height(png, info), 0 };
	png_bytepp rows = png_get_rows(png, info);
	size_t row_size = png_get_rowbytes(png, info);
	uLong crc = crc32_z(0, NULL, 0);

	for (uint32_t y = 0; y < picture.height; y++)
		crc = crc32_z(crc, rows[y], row_size);
	picture.crc = (uint32_t)crc;
	return picture;
}

/* Expanded to whole bytes, so that the sum does not depend on how small pixels were packed. */
static int decode_file(pp_task *task, FILE *file)
{
	png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
	png_infop info = png ? png_create_info_struct(png) : NULL;
	struct picture picture;

	if (!info) {
		png_destroy_read_struct(&png, NULL, NULL);
		return pp_raise(task, ENOMEM, "%s", strerror(ENOMEM));
	}
	png_init_io(png, file);
	png_read_png(png, info, PNG_TRANSFORM_EXPAND, NULL);
	picture = measure(png, info);
	png_destroy_read_struct(&png, &info, NULL);
	return pp_return(task, &picture, sizeof picture);
}

static int decode(pp_task *task, const void *data, size_t size)
{
	FILE *file = fdopen(pp_task_fd(task, 0), "rb");
	int rc;

	(void)data;
	(void)size;
	if (!file)
		return pp_raise(task, errno, "%s", strerror(errno));
	rc = decode_file(task, file);
	fclose(file);
	return rc;
}

/* ------------------------------------------------------------------ files to tasks */

static int make_room(struct checker *checker)
{
	size_t room = checker->room ? 2 * checker->room : 64;
	struct file *files;

	if (checker->n < checker->room)
		return 0;
	files = reallocarray(checker->files, room, sizeof *files);
	if (!files)
		return -ENOMEM;
	checker->files = files;
	checker->room = room;
	return 0;
}

static int submit_file(struct checker *checker, struct file *file)
{
	pp_task_options options = PP_TASK_OPTIONS_INIT;
	int rc, fd = open(file->path, O_RDONLY | O_CLOEXEC);

	if (fd < 0) {
		file->error = errno;
		return 0;
	}
	options.fds = &fd;
	options.fd_count = 1;
	rc = pp_submit_with(checker->executor, &options, decode, NULL, 0, &file->future);
	close(fd);
	return rc;
}

static int add_file(struct checker *checker, const char *path)
{
	struct file *file;
	int rc = make_room(checker);

	if (rc < 0)
		return rc;
	file = &checker->files[checker->n];
	*file = (struct file){ .path = strdup(path) };
	if (!file->path)
		return -ENOMEM;
	rc = submit_file(checker, file);
	if (rc < 0)
		free(file->path);
	else
		checker->n++;
	return rc;
}

static int by_name(const FTSENT **a, const FTSENT **b)
{
	return strcmp((*a)->fts_name, (*b)->fts_name);
}

/* What the arguments name is always wanted; in directories, files that are called *.png. (Opening a FIFO there
 * would wait for ever.) */
static bool is_wanted(const FTSENT *entry)
{
	bool named = entry->fts_level == FTS_ROOTLEVEL;

	switch (entry->fts_info) {
	case FTS_F:
	case FTS_NS:
	case FTS_SLNONE:
		return named || fnmatch("*.png", entry->fts_name, 0) == 0;
	case FTS_DEFAULT:
		return named;
	default:
		return false;
	}
}

static int add_entry(struct checker *checker, const FTSENT *entry)
{
	if (entry->fts_info == FTS_DNR || entry->fts_info == FTS_ERR) {
		fprintf(stderr, "pngcheck: %s: %s\n", entry->fts_path, strerror(entry->fts_errno));
		checker->status = 2;
		return 0;
	}
	return is_wanted(entry) ? add_file(checker, entry->fts_path) : 0;
}

/* A file, or all that is in a directory, sorted by name. One that does not exist is told of in its place. */
static int add_tree(struct checker *checker, char *path)
{
	char *const paths[] = { path, NULL };
	FTS *tree = fts_open(paths, FTS_LOGICAL | FTS_NOCHDIR, by_name);
	FTSENT *entry;
	int rc = 0;

	if (!tree)
		return -errno;
	while (rc == 0 && (entry = fts_read(tree)))
		rc = add_entry(checker, entry);
	if (rc == 0 && errno)
		rc = -errno;
	fts_close(tree);
	return rc;
}

static int add_all(struct checker *checker, char **paths)
{
	int rc = 0;

	for (; rc == 0 && *paths; paths++)
		rc = add_tree(checker, *paths);
	return rc;
}

/* ------------------------------------------------------------------ outcomes to lines */

static void report_bad(struct checker *checker, const struct file *file, const pp_outcome *outcome)
{
	char text[512];

	pp_outcome_describe(outcome, text, sizeof text);
	printf("%s: %s\n", file->path, text);
	checker->bad++;
	if (outcome->kind == PP_RAISED || outcome->kind == PP_BROKEN)
		checker->status = 2;
	else if (checker->status == 0)
		checker->status = 1;
}

static int report(struct checker *checker, const struct file *file)
{
	const pp_outcome *outcome;
	struct picture picture;
	int rc;

	if (file->error) {
		printf("%s: %s\n", file->path, strerror(file->error));
		checker->bad++;
		checker->status = 2;
		return 0;
	}
	rc = pp_future_result(file->future, PP_FOREVER, &outcome);
	if (rc < 0)
		return rc;
	if (outcome->kind != PP_RETURNED || outcome->size != sizeof picture) {
		report_bad(checker, file, outcome);
		return 0;
	}
	memcpy(&picture, outcome->data, sizeof picture);
	printf("%s: %ux%u crc32 %08x\n", file->path, picture.width, picture.height, picture.crc);
	return 0;
}

static int report_all(struct checker *checker)
{
	for (size_t i = 0; i < checker->n; i++) {
		int rc = report(checker, &checker->files[i]);

		if (rc < 0)
			return rc;
	}
	printf("%zu ok, %zu bad\n", checker->n - checker->bad, checker->bad);
	if (fflush(stdout) == EOF || ferror(stdout)) {
		fprintf(stderr, "pngcheck: cannot write: %s\n", strerror(errno));
		checker->status = 2;
	}
	return 0;
}

static void clean_up(struct checker *checker)
{
	for (size_t i = 0; i < checker->n; i++) {
		pp_future_free(checker->files[i].future);
		free(checker->files[i].path);
	}
	free(checker->files);
	pp_executor_free(checker->executor);
}

/* ------------------------------------------------------------------ the command line */

static int check(char **paths)
{
	struct checker checker = { .status = 0 };
	pp_options options = PP_OPTIONS_INIT;
	int rc;

	options.flags = PP_PASS_FDS;
	options.max_pending = MAX_PENDING;
	rc = pp_executor_create(&checker.executor, &options);
	if (rc == 0)
		rc = add_all(&checker, paths);
	if (rc == 0)
		rc = report_all(&checker);
	clean_up(&checker);
	if (rc == 0)
		return checker.status;
	fprintf(stderr, "pngcheck: %s\n", pp_strerror(rc));
	return 2;
}

int main(int argc, char **argv)
{
	static const char usage[] =
		"usage: pngcheck FILE|DIRECTORY ...\n"
		"Decodes PNG files in worker processes; prints size and checksum of each, or why its worker died.\n";
	static const struct option options[] = { { "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 } };
	int option = getopt_long(argc, argv, "", options, NULL);

	if (option == 'h')
		return fputs(usage, stdout) < 0;
	if (option != -1 || optind == argc) {
		fputs(usage, stderr);
		return 2;
	}
	return check(argv + optind);
}
