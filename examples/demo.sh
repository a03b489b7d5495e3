#!/bin/sh
# SPDX-License-Identifier: MIT
# Runs the examples. EXAMPLES_BUILDDIR is where the programs are, EXAMPLES_SRCDIR where this script is.
# Exit status: 0 when each of them behaved as it should.

: "${EXAMPLES_BUILDDIR:?is not set}" "${EXAMPLES_SRCDIR:?is not set}"
failures=0

heading()
{
	printf '\n==== %s\n' "$*"
}

# expect STATUS COMMAND ...
expect()
{
	wanted=$1
	shift
	"$@"
	status=$?
	[ "$status" -eq "$wanted" ] && return
	echo "demo: $1: exit status $status instead of $wanted" >&2
	failures=$((failures + 1))
}

heading 'futures: four tasks, three processes'
expect 0 "$EXAMPLES_BUILDDIR/futures" --seed 217

heading 'futures --crash: the same, but Task3 dereferences NULL'
expect 0 "$EXAMPLES_BUILDDIR/futures" --crash --seed 217

heading 'pngcheck: a decoder that dies of bad pictures (some of these are)'
if [ -x "$EXAMPLES_BUILDDIR/pngcheck" ]; then
	cd "$EXAMPLES_SRCDIR" || exit 1
	expect 1 "$EXAMPLES_BUILDDIR/pngcheck" png
else
	echo 'skipped: it was not built, because libpng was not found'
fi

heading 'eventloop: one, two, crash, three and four in upper case, but for the one that crashes its task'
expect 0 "$EXAMPLES_BUILDDIR/eventloop" <<END
one
two
crash
three
four
END

heading 'regex_guard: patterns of strangers; one backtracks for ever, one eats memory, one meets a bug'
if [ -x "$EXAMPLES_BUILDDIR/regex_guard" ]; then
	expect 1 "$EXAMPLES_BUILDDIR/regex_guard" -m 16 "$EXAMPLES_SRCDIR/regex/patterns.txt" "$EXAMPLES_SRCDIR/regex/lines.txt"
else
	echo 'skipped: it was not built, because PCRE2 was not found'
fi

heading 'wordcount: the words of the license texts of this system, in pieces of one block that no task copies'
if [ -d /usr/share/common-licenses ]; then
	expect 0 "$EXAMPLES_BUILDDIR/wordcount"
else
	expect 0 "$EXAMPLES_BUILDDIR/wordcount" "$EXAMPLES_SRCDIR"
fi

echo
if [ "$failures" -ne 0 ]; then
	echo "demo: $failures of the examples did not behave as they should" >&2
	exit 1
fi
echo 'All examples behaved as they should.'
