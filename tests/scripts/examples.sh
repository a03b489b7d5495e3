#!/bin/sh
# SPDX-License-Identifier: MIT
# The examples do what they say, and print the same to a file, a pipe and a terminal.
# EXAMPLES_BUILDDIR is where the programs are, EXAMPLES_SRCDIR where their sources and samples are.

: "${EXAMPLES_BUILDDIR:?is not set}" "${EXAMPLES_SRCDIR:?is not set}"
LC_ALL=C
export EXAMPLES_BUILDDIR LC_ALL
futures=$EXAMPLES_BUILDDIR/futures
pngcheck=$EXAMPLES_BUILDDIR/pngcheck
eventloop=$EXAMPLES_BUILDDIR/eventloop
wordcount=$EXAMPLES_BUILDDIR/wordcount
seed=217                # Task4 fails, Task2 does not, and all end within 1.5 s
tests=0
failures=0

tmp=$(mktemp -d) || exit 99
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM

# ---------------------------------------------------------------- TAP

# check NAME COMMAND ...: the command's status is the test's; what it says is shown when it fails.
check()
{
	name=$1
	shift
	tests=$((tests + 1))
	if "$@" >"$tmp/log" 2>&1; then
		echo "ok $tests - $name"
		return
	fi
	sed 's/^/# /' "$tmp/log"
	echo "not ok $tests - $name"
	failures=$((failures + 1))
}

# skip REASON NAME ...
skip()
{
	reason=$1
	shift
	for name; do
		tests=$((tests + 1))
		echo "ok $tests - $name # SKIP $reason"
	done
}

# ---------------------------------------------------------------- what the tests are made of

# Nothing here takes longer than a few seconds, so this is only a guard against hanging.
guarded()
{
	timeout 120 "$@"
}

# exits STATUS COMMAND ...
exits()
{
	wanted=$1
	shift
	guarded "$@"
	status=$?
	[ "$status" -eq "$wanted" ] || { echo "exit status $status instead of $wanted: $*"; return 1; }
}

# is_count N PATTERN FILE
is_count()
{
	n=$(grep -c -e "$2" "$3")
	[ "$n" -eq "$1" ] || { echo "$n lines instead of $1 have: $2"; cat "$3"; return 1; }
}

same_lines()
{
	sort "$1" >"$tmp/one"
	sort "$2" >"$tmp/other"
	diff "$tmp/one" "$tmp/other"
}

no_line_twice()
{
	grep -v '^$' "$1" | sort | uniq -d >"$tmp/twice"
	cat "$tmp/twice"
	[ ! -s "$tmp/twice" ]
}

# What differs from run to run: which worker it was, its pid, the time, and addresses.
without_noise()
{
	sed -e 's/ (worker .*)$//' -e 's/ at 0x[0-9a-f]*//' "$1"
}

# ---------------------------------------------------------------- futures

four_outcomes()
{
	is_count 4 '^\[Task[1-4]\] Starting, will take [0-9.]*s$' "$1" &&
	is_count 4 '^\[Callback\] ' "$1" &&
	is_count 4 '^\[Main Loop\] Got ' "$1" &&
	is_count 1 '^Using as_completed' "$1"
}

futures_to_file()
{
	exits 0 "$futures" --seed "$seed" >"$tmp/file" && four_outcomes "$tmp/file" &&
	is_count 3 '^\[Task[123]\] Finished$' "$tmp/file" &&
	is_count 3 '^\[Callback\] Result: Task[123] result$' "$tmp/file" &&
	is_count 3 '^\[Main Loop\] Got result: Task[123] result$' "$tmp/file" &&
	is_count 1 '^\[Callback\] Task raised exception: Task Task4 failed randomly!$' "$tmp/file" &&
	is_count 1 '^\[Main Loop\] Got exception: Task Task4 failed randomly!$' "$tmp/file"
}

futures_to_pipe()
{
	guarded "$futures" --seed "$seed" | cat >"$tmp/pipe"
	same_lines "$tmp/file" "$tmp/pipe"
}

# A terminal ends lines by CR LF, and script echoes the end of its own input.
futures_to_terminal()
{
	SHELL=/bin/sh seed=$seed guarded script -qec '"$EXAMPLES_BUILDDIR/futures" --seed "$seed"' /dev/null \
		</dev/null >"$tmp/raw" || return
	tr -d '\r\004\b' <"$tmp/raw" | sed 's/^^D//' >"$tmp/terminal"
	same_lines "$tmp/file" "$tmp/terminal"
}

futures_crash()
{
	exits 0 "$futures" --crash --seed "$seed" >"$tmp/crash" && four_outcomes "$tmp/crash" &&
	is_count 1 '^\[Callback\] Task raised exception: Task3: .*SIGSEGV' "$tmp/crash" &&
	is_count 1 '^\[Main Loop\] Got exception: Task3: .*SIGSEGV' "$tmp/crash" &&
	is_count 2 '^\[Task[12]\] Finished$' "$tmp/crash" &&
	is_count 2 'Task4 failed randomly!$' "$tmp/crash"
}

misused()
{
	for program; do
		exits 2 "$EXAMPLES_BUILDDIR/$program" --no-such-option >"$tmp/stdout" 2>"$tmp/stderr" || return
		[ ! -s "$tmp/stdout" ] && grep '^usage: ' "$tmp/stderr" || return
	done
}

futures_bad_arguments()
{
	exits 2 "$futures" --seed && exits 2 "$futures" --seed x1 && exits 2 "$futures" --seed '' &&
	exits 2 "$futures" --seed 99999999999999999999999 && exits 2 "$futures" extra
}

helps()
{
	for program; do
		exits 0 "$EXAMPLES_BUILDDIR/$program" --help >"$tmp/help" && grep '^usage: ' "$tmp/help" || return
	done
}

check 'futures to a file' futures_to_file
check 'no line twice' no_line_twice "$tmp/file"
check 'the same lines to a pipe' futures_to_pipe
if script -qec true /dev/null </dev/null >/dev/null 2>&1; then
	check 'the same lines to a terminal' futures_to_terminal
else
	skip 'no script(1) of util-linux' 'the same lines to a terminal'
fi
check 'futures --crash has all four outcomes' futures_crash
check 'no line twice with a crash' no_line_twice "$tmp/crash"
check 'futures refuses bad arguments' futures_bad_arguments

# ---------------------------------------------------------------- pngcheck

pngcheck_samples()
{
	cd "$EXAMPLES_SRCDIR" || return
	exits 1 "$pngcheck" png >"$tmp/png" 2>"$tmp/stderr" || return
	without_noise "$tmp/png" | diff png/expected.txt -
}

pngcheck_order()
{
	cd "$EXAMPLES_SRCDIR/png" || return
	exits 0 "$pngcheck" rgb.png bits.png rgb.png >"$tmp/png" || return
	cut -d : -f 1 "$tmp/png" | tr '\n' ' ' | grep '^rgb.png bits.png rgb.png 3 ok, 0 bad $'
}

pngcheck_directories()
{
	mkdir -p "$tmp/tree/b/c.png" "$tmp/tree/a" && mkfifo "$tmp/tree/b/fifo.png" || return
	for copy in z.png a/2.png a/1.png b/c.png/3.png a/other.txt; do
		cp "$EXAMPLES_SRCDIR/png/rgb.png" "$tmp/tree/$copy" || return
	done
	exits 0 "$pngcheck" "$tmp/tree" >"$tmp/png" || return
	sed -e 's/:.*//' -e 's|.*/tree/||' "$tmp/png" | tr '\n' ' ' | grep '^a/1.png a/2.png b/c.png/3.png z.png 4 ok, 0 bad $'
}

pngcheck_unreadable()
{
	exits 2 "$pngcheck" "$tmp/missing" "$EXAMPLES_SRCDIR/png/rgb.png" >"$tmp/png" &&
	is_count 1 'missing: No such file' "$tmp/png" && is_count 1 '^1 ok, 1 bad$' "$tmp/png"
}

set -- 'pngcheck tells good pictures from bad ones' 'pngcheck keeps the order of its arguments' \
	'pngcheck goes into directories' 'pngcheck without a file to read' 'pngcheck refuses bad arguments'
if [ -x "$pngcheck" ]; then
	check "$1" pngcheck_samples
	check "$2" pngcheck_order
	check "$3" pngcheck_directories
	check "$4" pngcheck_unreadable
	check "$5" exits 2 "$pngcheck"
	programs='futures pngcheck eventloop wordcount'
else
	skip 'pngcheck was not built: no libpng' "$@"
	programs='futures eventloop wordcount'
fi

# ---------------------------------------------------------------- eventloop

# 1,000 lines are more than the loop lets wait, one is longer than what it reads at once, and the last has no newline.
make_lines()
{
	i=0
	while [ "$i" -lt 1000 ]; do
		i=$((i + 1))
		echo "line $i"
	done
	head -c 200000 /dev/zero | tr '\0' x
	printf '\n\nthe end'
}

{ make_lines; echo; } | tr '[:lower:]' '[:upper:]' >"$tmp/upper"
make_lines >"$tmp/lines"

eventloop_pipe()
{
	make_lines | guarded "$eventloop" >"$tmp/loop" || return
	same_lines "$tmp/upper" "$tmp/loop"
}

eventloop_file()
{
	exits 0 "$eventloop" <"$tmp/lines" >"$tmp/loop" || return
	same_lines "$tmp/upper" "$tmp/loop"
}

eventloop_parts()
{
	{ printf on; sleep 0.2; printf 'e\ntw'; sleep 0.2; printf 'o\n'; } | guarded "$eventloop" >"$tmp/loop" || return
	printf 'ONE\nTWO\n' >"$tmp/wanted"
	same_lines "$tmp/wanted" "$tmp/loop"
}

eventloop_crash()
{
	{ echo crash; cat "$tmp/lines"; printf '\ncrash\n'; } | guarded "$eventloop" >"$tmp/loop" 2>"$tmp/stderr" || return
	same_lines "$tmp/upper" "$tmp/loop" && is_count 2 '^crash: .*SIGSEGV' "$tmp/stderr"
}

# Lost lines are an error, and not a shorter output.
eventloop_full()
{
	exits 1 "$eventloop" <"$tmp/lines" >/dev/full 2>"$tmp/stderr" && grep '^eventloop: stdout: ' "$tmp/stderr"
}

eventloop_empty()
{
	exits 0 "$eventloop" </dev/null >"$tmp/loop" && [ ! -s "$tmp/loop" ] &&
	: | guarded "$eventloop" >"$tmp/loop" && [ ! -s "$tmp/loop" ]
}

check 'eventloop on a pipe' eventloop_pipe
check 'eventloop on a regular file' eventloop_file
check 'eventloop puts lines together' eventloop_parts
check 'eventloop loses no line to a crash' eventloop_crash
if [ -c /dev/full ]; then
	check 'eventloop on a full disk' eventloop_full
else
	skip 'no /dev/full' 'eventloop on a full disk'
fi
check 'eventloop without input' eventloop_empty
check 'eventloop without stdin' exits 1 sh -c 'exec "$EXAMPLES_BUILDDIR/eventloop" <&-'

# ---------------------------------------------------------------- wordcount

licenses=/usr/share/common-licenses

# counted FILE ARGUMENT ...: the report but for its last line, which is the speed, and nothing on stderr.
counted()
{
	report=$1
	shift
	exits 0 "$wordcount" "$@" >"$tmp/report" 2>"$tmp/stderr" || return
	is_count 1 '^[0-9.]* MB/s$' "$tmp/report" && [ ! -s "$tmp/stderr" ] && sed '$d' "$tmp/report" >"$report"
}

wordcount_serial()
{
	counted "$tmp/one-process" --serial "$@" && counted "$tmp/pieces" "$@" && diff "$tmp/one-process" "$tmp/pieces"
}

# Pieces of a byte end behind each word, and many are only what is between two words.
wordcount_pieces()
{
	for piece in 1 7 1000 100000000; do
		counted "$tmp/pieces" --piece "$piece" --top 1000000 "$tmp/text" && diff "$tmp/all" "$tmp/pieces" || return
	done
}

# The same by other means.
wordcount_is_right()
{
	tr '[:upper:]' '[:lower:]' <"$tmp/text" | tr -cs '[:lower:]\200-\377' '\n' | grep -a . >"$tmp/words"
	sort "$tmp/words" | uniq -c | sort -k 1,1nr -k 2 | sed 's/^ *//' >"$tmp/wanted"
	echo "$(($(wc -l <"$tmp/words"))) words, $(($(wc -l <"$tmp/wanted"))) different ones, in 1 files" >>"$tmp/wanted"
	counted "$tmp/all" --serial --top 1000000 "$tmp/text" && sed 's/^ *//' "$tmp/all" | diff -a "$tmp/wanted" -
}

# Two files do not make one word, a link in a directory is no second file, and an empty one has no words.
wordcount_trees()
{
	mkdir "$tmp/words.d" && printf 'one Two' >"$tmp/words.d/a" && printf 'two one' >"$tmp/words.d/b" &&
	: >"$tmp/words.d/c" && ln -s a "$tmp/words.d/d" || return
	printf '       2 one\n       2 two\n4 words, 2 different ones, in 3 files\n' >"$tmp/wanted"
	counted "$tmp/pieces" "$tmp/words.d" && diff "$tmp/wanted" "$tmp/pieces" || return
	echo '0 words, 0 different ones, in 1 files' >"$tmp/wanted"
	counted "$tmp/pieces" "$tmp/words.d/c" && diff "$tmp/wanted" "$tmp/pieces"
}

wordcount_unreadable()
{
	exits 2 "$wordcount" "$tmp/missing" 2>"$tmp/stderr" && is_count 1 'missing: No such file' "$tmp/stderr" &&
	exits 2 "$wordcount" /dev/null && exits 2 "$wordcount" --piece 0 && exits 2 "$wordcount" --top -1
}

# Upper case, words of more bytes than a piece, bytes above 127, and no newline at the end.
{ cat "$EXAMPLES_SRCDIR"/*.c "$EXAMPLES_SRCDIR"/*.sh; head -c 3000 /dev/zero | tr '\0' Q; printf ' \303\226l THE end'; } \
	>"$tmp/text"
check 'wordcount counts as sort and uniq do' wordcount_is_right
check 'wordcount in pieces of any size' wordcount_pieces
check 'wordcount of files, and of empty ones' wordcount_trees
if [ -d "$licenses" ]; then
	check 'wordcount without arguments, as one process' wordcount_serial
else
	skip "no $licenses" 'wordcount without arguments, as one process'
fi
check 'wordcount of what cannot be read' wordcount_unreadable

# ---------------------------------------------------------------- regex_guard

regex_guard=$EXAMPLES_BUILDDIR/regex_guard

# The counts of the good ones are complete, and each of the others has its own cause. A line that the program is compiled from
# is where it crashes.
regex_guard_causes()
{
	exits 1 "$regex_guard" -t 8000 -m 16 "$EXAMPLES_SRCDIR/regex/patterns.txt" "$EXAMPLES_SRCDIR/regex/lines.txt" \
		>"$tmp/report" 2>"$tmp/stderr" && [ ! -s "$tmp/stderr" ] || return
	is_count 9 . "$tmp/report" && is_count 1 '^procpool *1 lines$' "$tmp/report" &&
	is_count 1 '^^The .*  *2 lines$' "$tmp/report" && is_count 1 'd  *1 lines$' "$tmp/report" &&
	is_count 1 '^^(a+)+$ *timed out: ' "$tmp/report" && is_count 1 '^(?:(x).*memory: ' "$tmp/report" &&
	is_count 1 'n(?C2)e *3 lines$' "$tmp/report" && is_count 1 '^t(?C3)wo *crashed: SIGSEGV' "$tmp/report" &&
	is_count 1 '^(unclosed *raised: ' "$tmp/report" && is_count 1 '^.0-9.*  *2 lines$' "$tmp/report"
}

regex_guard_place()
{
	line=$(grep -n 'point->passed++' "$EXAMPLES_SRCDIR/regex_guard.c" | cut -d: -f1)
	is_count 1 "in count_callout at regex_guard.c:$line\$" "$tmp/report"
}

regex_guard_refuses()
{
	exits 2 "$regex_guard" && exits 2 "$regex_guard" -t 0 a b && exits 2 "$regex_guard" -m x a b &&
	exits 2 "$regex_guard" "$tmp/missing" "$tmp/text" 2>"$tmp/stderr" && is_count 1 'missing: No such file' "$tmp/stderr"
}

if [ -x "$regex_guard" ]; then
	check 'regex_guard stops what does not end, and completes the rest' regex_guard_causes
	if grep -q 'HAVE_LIBDW' "$EXAMPLES_BUILDDIR/../config.status" && ! grep -q 'fsanitize' "$EXAMPLES_BUILDDIR/../config.status"; then
		check 'regex_guard tells the line where it crashed' regex_guard_place
	else
		skip 'built without backtraces' 'regex_guard tells the line where it crashed'
	fi
	check 'regex_guard refuses bad arguments' regex_guard_refuses
else
	skip 'regex_guard was not built: no PCRE2' 'regex_guard stops what does not end, and completes the rest' \
		'regex_guard tells the line where it crashed' 'regex_guard refuses bad arguments'
fi

# The names are words of their own here.
# shellcheck disable=SC2086
check 'bad options' misused $programs
# shellcheck disable=SC2086
check '--help' helps $programs

echo "1..$tests"
[ "$failures" -eq 0 ]
