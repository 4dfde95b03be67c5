#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Asks PyPI's advisories (by pip-audit, which is installed in .venv-lock) about each dependency of deploy/requirements/local.txt,
# which has those of all parts. Exit code 1: one has a known weakness, which is shown; 3: the advisories were not reached.
#
#   deploy/requirements/audit.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
die() { printf 'audit.sh: error: %s\n' "$*" >&2; exit 3; }

tool=.venv-lock/bin
[ -x $tool/python ] || python3 -m venv .venv-lock
[ -x $tool/pip-audit ] || $tool/python -m pip install --quiet --disable-pip-version-check 'pip-audit>=2.9,<3' \
    || die "pip could not install pip-audit; its messages are above"
code=0
# with hashes and pinned versions nothing is resolved, and nothing is installed
said=$($tool/pip-audit --strict --require-hashes --disable-pip --progress-spinner off --timeout 30 \
    --requirement deploy/requirements/local.txt 2>&1) || code=$?
printf '%s\n' "$said"
[ $code = 0 ] || grep -qE '^Found [0-9]+ known vulnerabilit' <<< "$said" \
    || die "the advisories were not reached (see above): nothing is known of the dependencies today"
exit $code
