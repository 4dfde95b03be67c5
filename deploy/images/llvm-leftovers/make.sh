#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes a Debian package that stands in the place of libz3-4 and libxml2 (with libicu72: 61 MB) in the producer's image.
# LLVM is linked with both, and calls Z3 in clang's static analyzer alone, libxml2 for manifests of Windows alone. The
# functions that it asks the dynamic linker for are here; who calls one all the same is ended by SIGILL.
#
#   make.sh FILE.deb                 needs gcc, and apt-get to look into libllvm14
set -eu
file=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
apt-get download -qq -o APT::Sandbox::User=root libllvm14
dpkg-deb -x libllvm14_*.deb llvm
nm --dynamic --undefined-only llvm/usr/lib/*/libLLVM-14.so.1 | sed -n 's/^ *[Uw] \(Z3_\|xml\)/\1/p' > wanted

place=package/usr/lib/$(gcc -print-multiarch)
mkdir -p "$place" package/DEBIAN
grep '^Z3_' wanted | sed 's/@.*//; s/.*/void &(void) { __builtin_trap(); }/' > z3.c
# xmlFree is a variable
grep '^xml' wanted | sed 's/@.*//; s/.*/void &(void) { __builtin_trap(); }/; s/^void xmlFree(.*/void *xmlFree;/' > xml2.c
sed -n 's/^xml.*@//p' wanted | sort -u | while read -r version; do
    echo "$version { global:$(sed -n "s/^\(xml.*\)@$version\$/ \1;/p" wanted | tr -d '\n') };"
done > versions
gcc -shared -nostdlib -fno-builtin z3.c -Wl,-soname,libz3.so.4 -o "$place/libz3.so.4"
gcc -shared -nostdlib -fno-builtin xml2.c -Wl,-soname,libxml2.so.2 -Wl,--version-script=versions -o "$place/libxml2.so.2"
cat > package/DEBIAN/control <<END
Package: ayaflow-llvm-leftovers
Version: 1
Architecture: $(dpkg --print-architecture)
Maintainer: ayaflow
Provides: libz3-4 (= 4.8.12-3.1), libxml2 (= 2.9.14)
Conflicts: libz3-4, libxml2
Description: empty libraries in the place of what LLVM is linked with and compilers of BPF never call
END
cd "$OLDPWD"
dpkg-deb --root-owner-group -Zxz -b "$work/package" "$file" >/dev/null
