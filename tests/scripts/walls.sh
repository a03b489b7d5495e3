#!/bin/sh
# SPDX-License-Identifier: MIT
# The walls between the layers: the shared ground knows neither side, the workers' side nothing of the parent's private
# books, and the parent's side enters the children through one door.
set -u
cd "$TOP_SRCDIR" || exit 1
n=0

check() { # name, what grep must not find
	n=$((n + 1))
	if [ -z "$2" ]; then echo "ok $n - walls: $1"; else echo "not ok $n - walls: $1"; echo "$2" | sed 's/^/# /'; fi
}

ground="lib/layout.h lib/chunk.[ch] lib/death.h lib/slot.[ch] lib/segment.[ch] lib/units.[ch] lib/unit_books.c lib/unit_words.h lib/sum.[ch] lib/ring.[ch] lib/wake.[ch] lib/passing.[ch] lib/spin.[ch] lib/tally.h lib/sysdep.[ch]"
check "the ground includes neither side" \
	"$(grep -n '#include "\(pool\|arguments\|door\|supervisor\|worker\)\.h"' $ground)"
check "worker/ does not include the parent's books" \
	"$(grep -n '#include "\(pool\|arguments\)\.h"' worker/*.[ch])"
check "lib/ enters worker/ through its door" \
	"$(grep -n '#include "\(supervisor\|worker\)\.h"' lib/*.[ch])"
check "only start.c and inline.c go through the door" \
	"$(grep -ln '#include "door\.h"' lib/*.[ch] | grep -v '^lib/\(start\|inline\)\.c$')"
check "no file of the library is longer than 400 lines" \
	"$(wc -l lib/*.[ch] worker/*.[ch] | awk '$2 != "total" && $1 > 400')"
echo "1..$n"
