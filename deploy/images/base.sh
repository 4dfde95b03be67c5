#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes a Debian base for images from its packages, as Debian's slim images are: essential packages and apt, without
# manuals, documentation and translations. What is there already stays. As root.
#
#   deploy/images/base.sh SUITE FILE.tar
set -euo pipefail
suite=$1 file=$2
[ ! -s "$file" ] || exit 0
command -v mmdebstrap >/dev/null || { echo "base.sh: error: mmdebstrap is missing; run deploy/local/setup.sh ship, or: sudo apt-get install mmdebstrap" >&2; exit 1; }
mkdir -p "$(dirname "$file")"
mmdebstrap --quiet --mode=root --variant=minbase \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/info/*' --dpkgopt='path-exclude=/usr/share/lintian/*' \
    --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
    --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr --include=usr-is-merged \
    "$suite" "$file.part.tar"
mv "$file.part.tar" "$file"
