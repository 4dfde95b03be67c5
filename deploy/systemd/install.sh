#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs parts of ayaflow on a Debian or Ubuntu machine with systemd: Debian's packages, /opt/ayaflow, the units, a
# first /etc/ayaflow/ayaflow.yaml. Starts nothing. A second run brings a newer wheel; settings stay. As root.
#
#   deploy/systemd/install.sh WHEEL PART…          parts: producer producer-object streams console
#
# producer compiles the kernel program on this machine, by bcc (LLVM) and kernel headers; producer-object is the same
# unit with the one that the wheel has compiled (capture.loader: object), and needs neither.
# WHEEL is what `make wheel` makes; what it needs is installed as deploy/requirements of this checkout has it, by hashes.
# PIP_FIND_LINKS and the like are pip's own.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
die() { printf 'install.sh: error: %s\n' "$*" >&2; exit 1; }

[ $# -ge 2 ] || die "usage: install.sh WHEEL PART…, the parts being of: producer producer-object streams console"
[ "$(id -u)" = 0 ] || die "run it as root"
wheel=$(realpath "$1"); shift
[ -f "$wheel" ] || die "$wheel is not there; make it with: make wheel"
packages=(python3-venv ca-certificates)
loader=bcc
parts=()
for part in "$@"; do
    case $part in
        producer) packages+=(python3-bpfcc) ;;
        producer-object) part=producer loader=object ;;
        streams | console) ;;
        *) die "$part is none of producer, producer-object, streams, console" ;;
    esac
    parts+=("$part")
done
set -- "${parts[@]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null || die "apt-get could not install ${packages[*]}"

[ -x /opt/ayaflow/bin/python ] || python3 -m venv --system-site-packages /opt/ayaflow
pip=(/opt/ayaflow/bin/python -m pip --disable-pip-version-check)
for part in "$@"; do
    "${pip[@]}" install --quiet --require-hashes -r "$here/../requirements/$part.txt" || die "pip could not install what $part needs; its messages are above"
done
"${pip[@]}" install --quiet --no-index --no-deps --force-reinstall "$wheel" || die "pip could not install $wheel; its messages are above"

install -D -m 0644 "$here/ayaflow.sysusers" /usr/lib/sysusers.d/ayaflow.conf
# where systemd does not run (a chroot, an image that is being made) it does the same, and users are made all the same
if command -v systemd-sysusers >/dev/null; then systemd-sysusers ayaflow.conf
elif ! getent passwd ayaflow >/dev/null; then useradd --system --user-group --no-create-home ayaflow; fi
if [ ! -e /etc/ayaflow/ayaflow.yaml ]; then
    install -D -m 0600 "$here/ayaflow.yaml" /etc/ayaflow/ayaflow.yaml
    sed -i "s/^  loader: .*/  loader: $loader/" /etc/ayaflow/ayaflow.yaml
elif [ "$loader" = object ] && ! grep -q '^  loader: object' /etc/ayaflow/ayaflow.yaml; then
    echo "install.sh: /etc/ayaflow/ayaflow.yaml stays as it is; set capture.loader there to object" >&2
fi
for part in "$@"; do
    install -m 0644 "$here/ayaflow-$part.service" /etc/systemd/system/
    [ "$part" != producer ] || install -m 0644 "$here/run-ayaflow-bpf.mount" /etc/systemd/system/
done
[ ! -d /run/systemd/system ] || systemctl daemon-reload
echo "installed: $*. Look at /etc/ayaflow/ayaflow.yaml, then: systemctl enable --now$(printf ' ayaflow-%s' "$@")"
