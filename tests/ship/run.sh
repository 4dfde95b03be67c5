#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs the tests that build and install things: apart from this machine, as tests/apart.sh, but with a way out to the
# registries, which is the network namespace at descriptor 9. Arguments are pytest's.
set -euo pipefail
cd "$(dirname "$0")/../.."
exec 9< /proc/self/ns/net
exec tests/apart.sh .venv/bin/python -m pytest -m ship -rA -s "${@:-tests/ship}"
