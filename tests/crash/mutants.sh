#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Seeded mistakes of the protocol. Each patch in tests/crash/mutants says in its first line what is wrong, and behind
# "Caught-by:" what is to catch it:
#
#   PROGRAM CASE    a program of Check, and the case of it that must fail
#   tests/crash/kills WINDOW
#   model MUTANT    no program can; the model has the same mistake, and finds it
#   nothing         nobody can: the matrix says so
#
# A patch is put on a copy of the sources, what it touches is compiled as the build compiles it, and that one test is
# linked with it and run: a failure of just that, or no end within the limit, is a catch. First the tests run without
# any mistake: they have to pass within the same limit, and to have tried something, since a case that has another name
# by now passes without. Two jobs at a time. Run by make check-crash ITEMS=mutants, with MUTANTS="NAME..." only these.
# Prints the matrix; the last line is the summary. 77: a test cannot run here.
set -uo pipefail
export src=${TOP_SRCDIR:-$PWD} build=${TOP_BUILDDIR:-$PWD} CC=${CC:?}
export limit=${MUTANT_LIMIT:-15} CRASH_SEED=${CRASH_SEED:-1}
# The first fault of kills will do, and what hangs for a third of its usual time.
export CRASH_FAULTS=1 CRASH_GUARD_MS=3000
# How the build compiles the library, and links a test of it: quoted for the shell.
export compile=${MUTANT_COMPILE:?is what make check-crash passes} link=${MUTANT_LINK:?} libs=${MUTANT_LIBS:?}
work=$(mktemp -d) || exit 1
export work
trap 'rm -rf "$work"' EXIT

# Links program from its objects in the build folder, these others, and for all else the library.
link_with() { # output, program, objects...
	local output=$1 objects
	case $2 in
	tests/crash/kills) objects=$(ls "$build"/tests/crash/kills-*.o "$build"/tests/crash_kills-*.o) ;;
	*) objects=$(ls "$build/$2"-*.o) ;;
	esac
	shift 2
	eval "$CC $link -Wl,-z,now -o $output ${objects//$'\n'/ } $* $build/tests/.libs/libsupport.a" \
		"$build/.libs/libprocpool-internal.a $libs"
}

# 0: passed. The kills take their window as an argument, and stay on one CPU, so the two jobs have one each. Check's
# programs take a case.
run_test() { # binary, program, case
	case $2 in
	tests/crash/kills) on_own_cpu timeout -k 1 "$limit" "$1" short "$3" ;;
	*) CK_RUN_CASE=${3:-} timeout -k 1 "$limit" "$1" ;;
	esac </dev/null >"$1.log" 2>&1
}

on_own_cpu() { # command...
	local cpu
	cpu=$(LC_ALL=C taskset -cp $$ 2>/dev/null | awk -F'[:, -]+' -v job="${JOB:-0}" '{ print job ? $NF : $6 }')
	if [ -n "$cpu" ]; then taskset -c "$cpu" "$@"; else "$@"; fi
}

# Whether something was tried: a window's points, or a case's tests. What is skipped is not.
has_tried() { # log, program, case
	case $2 in
	tests/crash/kills) grep -q '^[1-9][0-9]* points in [1-9]' "$1" ;;
	*) grep -v '# SKIP' "$1" | grep -q "^ok [0-9]* - [^:]*:$3:" ;;
	esac
}

# Not that it could not be started, or has failed elsewhere.
has_failed() { # log, program, case
	case $2 in
	tests/crash/kills) grep -qE '^[0-9]+ points in .*[^0-9][1-9][0-9]* (lost|duplicated|hung|wrong)' "$1" ;;
	*) grep -q "^not ok [0-9]* - [^:]*:$3:" "$1" ;;
	esac
}

control() { # program and case
	local out program=${1%% *} case rc
	case=${1#"$program"} case=${case# }
	out=$(mktemp "$work/XXXXXX")
	link_with "$out" "$program" && run_test "$out" "$program" "$case"
	rc=$?
	[ $rc != 77 ] || return 77
	if [ $rc != 0 ]; then
		echo "without a mistake, $1 fails:"
		tail -n 5 "$out.log"
	elif ! has_tried "$out.log" "$program" "$case"; then
		echo "$1 tries nothing here:"
		tail -n 5 "$out.log"
		! grep -q '# SKIP' "$out.log" || return 77
		rc=1
	fi
	return $rc
}

# The mistake of that name is one that the table of the model's runs says must be found.
in_model() { # name
	grep -qE "^(short|full) +mutant .*-D$1( |\$)" "$src/model/check.sh" && grep -q "def[a-z]* *(*$1" "$src"/model/*.pml
}

compile_mutant() { # folder, patch
	local file
	for file in $(sed -n 's,^+++ b/\([^[:space:]]*\).*,\1,p' "$2"); do
		(cd "$1" && eval "$CC -Iinclude -Ilib -Iworker $compile -w -fPIC -c -o ${file//\//-}.o $file") || return
	done
}

mutant() { # patch
	local name dir caught program case rc
	name=$(basename "$1" .patch)
	dir=$work/$name
	caught=$(sed -n 's/^Caught-by: //p' "$1")
	program=${caught%% *} case=${caught#"$program"}
	case=${case# }
	verdict() { printf '%-26s %-9s %s\n' "$name" "$1" "$caught" | tee "$work/$name.verdict"; rm -rf "$dir"; }
	mkdir "$dir" && cp -r "$src/lib" "$src/worker" "$src/include" "$dir" || return
	if ! patch -s -f -F0 -p1 -d "$dir" <"$1" >/dev/null; then verdict stale; return; fi
	compile_mutant "$dir" "$1" || { verdict unbuilt; return; }
	case $program in
	nothing) verdict uncaught; return ;;
	model) verdict "$(in_model "$case" && echo model || echo ESCAPED)"; return ;;
	esac
	link_with "$dir/test" "$program" "$dir"/*.o || { verdict unbuilt; return; }
	run_test "$dir/test" "$program" "$case"
	rc=$?
	[ -z "${MUTANT_LOGS:-}" ] || cp "$dir/test.log" "$MUTANT_LOGS/$name.log"
	case $rc in
	0) verdict ESCAPED ;;
	124 | 137) verdict hung ;;
	*) verdict "$(has_failed "$dir/test.log" "$program" "$case" && echo caught || echo UNCLEAR)" ;;
	esac
}

each() { # function, which is called with each line of the input
	xargs -d '\n' -P 2 -n 1 --process-slot-var=JOB bash -c "$1"' "$0"
		rc=$?; [ $rc = 0 ] || touch "$work/$([ $rc = 77 ] && echo skipped || echo failed)"; exit $rc'
}

export -f link_with run_test on_own_cpu has_tried has_failed control in_model compile_mutant mutant
patches=()
for name in "${@:-*}"; do
	for file in "$src"/tests/crash/mutants/$name.patch; do patches+=("$file"); done
done
sed -n 's/^Caught-by: \(tests\)/\1/p' "${patches[@]}" | sort -u | each control || {
	[ -e "$work/failed" ] || { echo "a test cannot run on this machine"; exit 77; }
	echo "0 mutants: a test fails without a mistake, or tries nothing"
	exit 1
}
echo "mutant                     verdict   test"
printf '%s\n' "${patches[@]}" | each mutant
cat "$work"/*.verdict | awk -v all=${#patches[@]} '{ n[$2]++ } END {
	caught = n["caught"] + n["hung"]; bad = all - caught - n["model"] - n["uncaught"]
	printf "%d mutants, %d caught (%d of them by no end within the limit), %d found by the model only, %d by nothing; ",
		all, caught, n["hung"], n["model"], n["uncaught"]
	printf "%d escaped, %d unclear, %d do not apply, %d do not build; 0 lost, 0 duplicated, 0 hung, %d wrong\n",
		n["ESCAPED"], n["UNCLEAR"], n["stale"], n["unbuilt"], bad
	exit bad > 0 || !caught }'
