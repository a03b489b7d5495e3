#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Seeded mistakes of the protocol. Each patch in tests/crash/mutants says in its first lines what is wrong and which test
# is to catch it ("Caught-by: program [case of Check, or window of kills]"; "nothing" where none can). It is put on a copy
# of the sources, the object it touches is compiled and put into a copy of the static library, and that one test is
# linked and run: a failure, or no end within the limit, is a catch. First the tests run without any mistake, and have to
# pass within the same limit. Two jobs at a time. Arguments: names of mutants (all). Prints the matrix; the last line is the summary.
set -uo pipefail
export src=${TOP_SRCDIR:-$PWD} build=${TOP_BUILDDIR:-$PWD} CC=${CC:-cc}
export limit=${MUTANT_LIMIT:-40} CRASH_SEED=${CRASH_SEED:-1}
export flags=${MUTANT_CFLAGS:--g -O2} libs=${MUTANT_LIBS:--lcheck_pic -lrt -lm -lsubunit} SOAK_SECONDS=2
work=$(mktemp -d) || exit 1
export work
trap 'rm -rf "$work"' EXIT

# Links program from its objects in the build folder with this library.
link_with() { # program, library, output
	local objects
	case $1 in
	tests/crash/kills) objects=$(ls "$build"/tests/crash/kills-*.o "$build"/tests/crash_kills-*.o) ;;
	*) objects=$(ls "$build/$1"-*.o) ;;
	esac
	# shellcheck disable=SC2086
	$CC $flags -pthread -Wl,-z,now -o "$3" $objects "$build/tests/.libs/libsupport.a" "$2" $libs
}

# 0: passed. The kills take their window as an argument, Check's programs a case.
run_test() { # binary, program, case
	case $2 in
	tests/crash/kills) timeout -k 1 "$limit" "$1" short "$3" ;;
	*) CK_RUN_CASE=${3:-} timeout -k 1 "$limit" "$1" ;;
	esac </dev/null >"$1.log" 2>&1
}

control() { # program, case
	local out
	out=$(mktemp "$work/XXXXXX")
	link_with "$1" "$build/.libs/libprocpool-internal.a" "$out" && run_test "$out" "$1" "$2" && return
	echo "without a mistake, $1 $2 fails:"
	tail -n 5 "$out.log"
	return 1
}

mutant() { # patch
	local name dir caught program case file object rc
	name=$(basename "$1" .patch)
	dir=$work/$name
	caught=$(sed -n 's/^Caught-by: //p' "$1")
	program=${caught%% *} case=${caught#"$program"}
	case=${case# }
	verdict() { printf '%-24s %-9s %s\n' "$name" "$1" "$caught" | tee "$work/$name.verdict"; rm -rf "$dir"; }
	mkdir "$dir" && cp -r "$src/lib" "$src/worker" "$src/include" "$dir" || return
	if ! patch -s -f -F0 -p1 -d "$dir" <"$1" >/dev/null; then verdict stale; return; fi
	cp "$build/.libs/libprocpool-internal.a" "$dir/mutant.a"
	for file in $(sed -n 's,^+++ b/\([^[:space:]]*\).*,\1,p' "$1"); do
		object=libprocpool_internal_la-$(basename "$file" .c).o
		# shellcheck disable=SC2086
		$CC -std=gnu11 -w -D_GNU_SOURCE -DHAVE_LINUX_FUTEX_H=1 -DPACKAGE_VERSION='"mutant"' $flags -pthread -fPIC \
			-fvisibility=hidden -I"$dir/include" -I"$dir/lib" -I"$dir/worker" -c -o "$dir/$object" "$dir/$file" \
			&& ar r "$dir/mutant.a" "$dir/$object" 2>/dev/null || { verdict unbuilt; return; }
	done
	if [ "$program" = nothing ]; then verdict uncaught; return; fi
	link_with "$program" "$dir/mutant.a" "$dir/test" || { verdict unbuilt; return; }
	run_test "$dir/test" "$program" "$case"
	rc=$?
	cp "$dir/test.log" "$work/$name.log"
	case $rc in
	0) verdict ESCAPED ;;
	124 | 137) verdict hung ;;
	*) verdict caught ;;
	esac
}

export -f link_with run_test control mutant
patches=()
for name in "${@:-*}"; do
	for file in "$src"/tests/crash/mutants/$name.patch; do patches+=("$file"); done
done
sed -n 's/^Caught-by: //p' "${patches[@]}" | sort -u | grep -v '^nothing' \
	| xargs -d '\n' -P 2 -n 1 bash -c 'program=${0%% *} rest=${0#"${0%% *}"}; control "$program" "${rest# }"' \
	|| { echo "0 mutants: a test fails without a mistake"; exit 1; }
echo "mutant                   verdict   test"
printf '%s\n' "${patches[@]}" | xargs -d '\n' -P 2 -n 1 bash -c 'mutant "$0"'
awk '{ n[$2]++ } END {
	caught = n["caught"] + n["hung"]; bad = n["ESCAPED"] + n["stale"] + n["unbuilt"]
	printf "%d mutants, %d caught (%d of them by no end within the limit), %d that no test can catch; ", NR, caught,
		n["hung"], n["uncaught"]
	printf "%d escaped, %d do not apply, %d do not build; 0 lost, 0 duplicated, 0 hung, %d wrong\n", n["ESCAPED"], n["stale"],
		n["unbuilt"], bad
	exit bad > 0 || !caught }' "$work"/*.verdict
