/* SPDX-License-Identifier: MIT */
/*
 * The inputs of the fuzzer once more, without it: what tests/crash/fuzz.h describes, for each file of
 * tests/crash/corpus. A rule that does not hold ends the program, and the cases that are missing then are a failure.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "fuzz.h"

#define INPUT_MAX 65536u

static int is_input(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

static int replay(const char *folder, const char *name)
{
	static uint8_t bytes[INPUT_MAX];
	char path[4096];
	ssize_t n;
	int fd;

	snprintf(path, sizeof path, "%s/%s", folder, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, bytes, sizeof bytes);
	if (fd >= 0)
		close(fd);
	return n < 0 ? -1 : LLVMFuzzerTestOneInput(bytes, (size_t)n);
}

int main(int argc, char **argv)
{
	const char *top = getenv("TOP_SRCDIR");
	struct dirent **entries = NULL;
	char folder[2048];
	int n;

	snprintf(folder, sizeof folder, "%s/tests/crash/corpus", top ? top : ".");
	n = scandir(folder, &entries, is_input, alphasort);
	if (n <= 0) {
		printf("Bail out! no inputs in %s\n", folder);
		return 1;
	}
	printf("1..%d\n", n);
	LLVMFuzzerInitialize(&argc, &argv);
	for (int i = 0; i < n; i++) {
		printf("# %s\n", entries[i]->d_name);
		fflush(stdout);
		printf("%s %d - test_corpus:%s\n", replay(folder, entries[i]->d_name) == 0 ? "ok" : "not ok", i + 1,
		       entries[i]->d_name);
		free(entries[i]);
	}
	free(entries);
	return 0;
}
