#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Writes deploy/requirements: of each part all that pip installs, with its version, which is that of constraints.txt where
# it has one, and the hashes of its files for every machine and Python. Asks the registry, by uv, which is installed in
# .venv-lock and nowhere else.
#
#   deploy/requirements/lock.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
tool=.venv-lock/bin
[ -x $tool/uv ] || { python3 -m venv .venv-lock && $tool/python -m pip install --quiet --disable-pip-version-check uv==0.13.9; }

lock() {
    local name=$1; shift
    {
        echo "# What pip installs for $name: python -m pip install --require-hashes -r deploy/requirements/$name.txt"
        echo "# Made by: make lock"
        SSL_CERT_FILE=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt} $tool/uv pip compile --quiet --no-cache --no-config \
            --universal --python-version 3.11 --generate-hashes --no-annotate --no-header -c constraints.txt "$@"
    } > "deploy/requirements/$name.txt.part"
    mv "deploy/requirements/$name.txt.part" "deploy/requirements/$name.txt"
}

for extra in producer streams console local; do lock $extra --extra $extra pyproject.toml; done
sed -n 's/^requires = \["\(.*\)"\]$/\1/p' pyproject.toml | lock build -
