#!/bin/sh
# SPDX-License-Identifier: MIT
# A program outside the tree builds and runs against an installation, static and shared, and uninstall leaves nothing.
set -u
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
n=0

report() { # status name
	n=$((n + 1))
	if [ "$1" = 0 ]; then echo "ok $n - install: $2"; else echo "not ok $n - install: $2"; fi
}

cd "$TOP_BUILDDIR" || exit 1
$MAKE -s install DESTDIR="$tmp/root" >"$tmp/log" 2>&1
report $? "make install DESTDIR="
cat >"$tmp/program.c" <<'END'
#include <procpool.h>
#include <string.h>
static int echo(pp_task *t, const void *data, size_t size) { return pp_return(t, data, size); }
int main(void)
{
	pp_executor *ex;
	pp_future *f;
	const pp_outcome *o;
	int bad;
	if (pp_executor_create(&ex, NULL) < 0 || pp_submit(ex, echo, "hi", 3, &f) < 0 || pp_future_result(f, 20000, &o) < 0)
		return 1;
	bad = o->kind != PP_RETURNED || o->size != 3 || memcmp(o->data, "hi", 3) != 0;
	pp_future_free(f);
	pp_executor_free(ex);
	return bad;
}
END
pc=$(find "$tmp/root" -name procpool.pc)
lib=$(dirname "$(find "$tmp/root" -name libprocpool.a)")
export PKG_CONFIG_SYSROOT_DIR="$tmp/root" PKG_CONFIG_PATH="$(dirname "$pc")"
# shellcheck disable=SC2046
$CC $PP_SANITIZE -o "$tmp/shared" "$tmp/program.c" $(pkg-config --cflags --libs procpool) && LD_LIBRARY_PATH="$lib" "$tmp/shared"
report $? "a program with pkg-config runs"
# shellcheck disable=SC2046
$CC $PP_SANITIZE -o "$tmp/static" "$tmp/program.c" $(pkg-config --cflags procpool) "$lib/libprocpool.a" -lpthread && "$tmp/static"
report $? "the same, linked statically"
$MAKE -s uninstall DESTDIR="$tmp/root" >>"$tmp/log" 2>&1
left=$(find "$tmp/root" ! -type d)
[ -z "$left" ]
report $? "make uninstall leaves nothing"
[ -z "$left" ] || echo "# $left"
echo "1..$n"
