#!/bin/sh
# SPDX-License-Identifier: MIT
# Every header compiles alone; the public one as each C and C++ that it promises, with its static initializers.
set -u
n=0
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

report() { # status name
	n=$((n + 1))
	if [ "$1" = 0 ]; then echo "ok $n - headers: $2"; else echo "not ok $n - headers: $2"; fi
}

cat >"$tmp/c.c" <<'END'
#include <procpool.h>
static pp_options options = PP_OPTIONS_INIT;
static pp_task_options task_options = PP_TASK_OPTIONS_INIT;
static pp_stats stats = PP_STATS_INIT;
int use(void);
int use(void) { return options.size == sizeof options && task_options.size == sizeof task_options && stats.size == sizeof stats; }
END
cat >"$tmp/cc.cc" <<'END'
#include <procpool.h>
static pp_options options = PP_OPTIONS_INIT;
static pp_task_options task_options = PP_TASK_OPTIONS_INIT;
static pp_stats stats = PP_STATS_INIT;
int use();
int use() { return options.size == sizeof options && task_options.size == sizeof task_options && stats.size == sizeof stats; }
END
strict="-Wall -Wextra -Wpedantic -Werror -fsyntax-only -I$TOP_SRCDIR/include"

for cc in gcc clang; do
	command -v $cc >/dev/null 2>&1 || continue
	for std in c99 c11 c17; do
		$cc -std=$std $strict "$tmp/c.c"
		report $? "procpool.h as $std by $cc"
	done
done
for cxx in g++ clang++; do
	command -v $cxx >/dev/null 2>&1 || continue
	for std in c++11 c++17 c++20; do
		$cxx -std=$std $strict "$tmp/cc.cc"
		report $? "procpool.h as $std by $cxx"
	done
done
for header in "$TOP_SRCDIR"/lib/*.h "$TOP_SRCDIR"/worker/*.h "$TOP_SRCDIR"/tests/*.h; do
	echo "#include \"$header\"" >"$tmp/one.c"
	${CC%% *} -std=gnu11 -D_GNU_SOURCE -Wall -Wextra -Werror -fsyntax-only -I"$TOP_SRCDIR/include" -I"$TOP_SRCDIR/lib" \
		-I"$TOP_SRCDIR/worker" "$tmp/one.c"
	report $? "$(basename "$header") alone"
done
echo "1..$n"
