#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs the tests that build and install things: apart from this machine, as tests/apart.sh, but with a way out to the
# registries, which is the network namespace at descriptor 9. Arguments are pytest's.
#
# Also in a control group and a cgroup namespace of their own: `podman system service` and systemd move all processes of
# the group that they find themselves in, which would be this machine's. And with processes of their own: systemd asks in
# which group the first one is, and whatever is interrupted ends with it.
set -euo pipefail
cd "$(dirname "$0")/../.."
if [ "${SHIP_APART:-}" != apart ]; then
    exec 9< /proc/self/ns/net
    SHIP_APART=apart exec unshare --mount --propagation private tests/ship/run.sh "$@"
fi
first=$(cat /proc/1/cgroup)
place=$(mktemp -d)
mount -t cgroup2 none "$place"
group=$place/ayaflow-ship-$$
mkdir "$group"
echo $$ > "$group/cgroup.procs"
code=0
if [ $# = 0 ]; then set -- tests/ship; fi
unshare --cgroup --pid --fork --kill-child --mount-proc bash -c '"$@"; exit $?' first \
    tests/apart.sh .venv/bin/python -m pytest -m ship -rA -s "$@" || code=$?
echo $$ > "$place/cgroup.procs"
find "$group" -depth -type d -exec rmdir {} +
umount "$place"
rmdir "$place"
if [ "$(cat /proc/1/cgroup)" != "$first" ]; then
    echo "run.sh: error: the processes of this machine were moved: $(cat /proc/1/cgroup)" >&2
    exit 1
fi
exit $code
