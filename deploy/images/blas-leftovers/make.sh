#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Puts a small library in the place of OpenBLAS (28 MB with Fortran's) beside numpy in an image. None of our parts
# multiplies matrices or asks for linear algebra; numpy itself asks for one scalar product when it is imported, which is
# here. Who calls anything else is told so, and ended.
#
#   make.sh SITE-PACKAGES            needs gcc
set -eu
cd "$1"
library=$(echo numpy.libs/libscipy_openblas*.so)
[ -f "$library" ] || { echo "make.sh: error: numpy has no OpenBLAS of its own any more; look at what it has" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
{
    cat <<'END'
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
static _Noreturn void refuse(const char *name) {
    fprintf(stderr, "%s: numpy has no linear algebra in this image\n", name);
    abort();
}
#define DOT(name, type)                                                                                   \
    type name(int64_t n, const type *x, int64_t step_x, const type *y, int64_t step_y) {                  \
        type sum = 0;                                                                                     \
        x -= step_x < 0 ? (n - 1) * step_x : 0;                                                           \
        y -= step_y < 0 ? (n - 1) * step_y : 0;                                                           \
        for (int64_t i = 0; i < n; i++) sum += x[i * step_x] * y[i * step_y];                             \
        return sum;                                                                                       \
    }
DOT(scipy_cblas_sdot64_, float)
DOT(scipy_cblas_ddot64_, double)
END
    find numpy -name '*.so' -exec nm --dynamic --undefined-only {} + | sed -n 's/^ *U \(scipy_.*\)/\1/p' | sort -u \
        | sed '/^scipy_cblas_[sd]dot64_$/d; s/.*/void &(void) { refuse("&"); }/'
} > "$work/blas.c"
grep -q 'refuse("' "$work/blas.c"
gcc -shared -fPIC -O2 -fno-builtin "$work/blas.c" -Wl,-soname,"$(basename "$library")" -o "$work/blas.so"
rm -rf numpy.libs/*
cp "$work/blas.so" "$library"
