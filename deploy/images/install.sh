#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs Debian packages in an image and leaves nothing but them.
#
#   install.sh PACKAGE…
set -eu
export DEBIAN_FRONTEND=noninteractive
# the post-installation of Java's package needs the folder, which slim bases lack
mkdir -p /usr/share/man/man1
apt-get update -qq
# an image that is half made is thrown away: nothing has to be on the disk before the next thing is done
apt-get -o Dpkg::Options::=--force-unsafe-io install -y -qq --no-install-recommends "$@" >/dev/null
# what the standard library has for developers; and its byte code, which is that of files with another time than an
# image gives them, hence read by nobody: but that of what a health check imports, by content
rm -rf /usr/lib/python3*/lib2to3 /usr/lib/python3*/pydoc_data /usr/lib/python3*/idlelib
find /usr/lib/python3* -name __pycache__ -prune -exec rm -rf {} +
if command -v python3 >/dev/null; then
    python3 -B -c 'import pathlib, re, ssl, sys, urllib.request
for module in sys.modules.values():
    if (file := getattr(module, "__file__", None) or "").endswith(".py"): print(file)' \
        | python3 -B -m compileall -q --invalidation-mode unchecked-hash -i -
fi
find /usr/share/doc -mindepth 1 ! -name copyright ! -type d -delete
find /usr/share/doc -mindepth 1 -type d -empty -delete
rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/cache/ldconfig/aux-cache \
    /var/log/apt /var/log/*log /usr/share/man/* /usr/share/locale/* /usr/share/info/* /usr/share/lintian
