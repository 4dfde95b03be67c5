#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs a command in network and mount namespaces of its own, so that several groups of tests can run at a time: each has
# its own ports, interfaces, named namespaces and pins, and keeps temporary files in memory, where there is some: ext4
# takes longer and longer to make a file where many were removed of late. Who is not root runs it as it is.
#
#   tests/apart.sh .venv/bin/python -m pytest tests/kernel
set -euo pipefail
[ "$(id -u)" = 0 ] || exec "$@"
available=$(sed -n 's/^MemAvailable: *\([0-9]*\) kB/\1/p' /proc/meminfo)
[ "$available" -lt 8000000 ] || export TMPDIR=/dev/shm
exec unshare --net --mount --propagation private bash -euc '
ip link set lo up
# getaddrinfo(AI_ADDRCONFIG), hence librdkafka, does not know 127.0.0.1 where the only other addresses are of IPv6
ip address add 192.0.2.250/32 dev lo
mkdir -p /run/netns
mount -t tmpfs none /run/netns
mount -t sysfs sysfs /sys
mount -t bpf bpf /sys/fs/bpf
mount -t tmpfs -o mode=1777 none /dev/shm
exec "$@"' apart "$@"
