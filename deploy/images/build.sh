#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the images of docker-bake.json by buildah, where `docker buildx bake -f deploy/images/docker-bake.json` has no
# registry of images to take its base from: the base is made of Debian's packages by mmdebstrap, as Debian's slim images
# are, and Python's wheels come from .wheels where `make setup-test` has put them. As root.
#
#   deploy/images/build.sh [TARGET…]         producer streams console ayaflow; all unless told
#
# VERSION, REVISION and SOURCE_DATE_EPOCH as in docker-bake.json; BASE names another base. CONTAINERS_STORAGE_CONF says
# where images are kept. Prints each image's name and size.
set -euo pipefail
cd "$(dirname "$0")/../.."

die() { printf 'build.sh: error: %s\n' "$*" >&2; exit 1; }
command -v buildah >/dev/null || die "buildah is missing; run deploy/local/setup.sh ship, or: sudo apt-get install buildah"

bake() { /usr/bin/python3 - "$@" <<'END'
import json, os, re, sys
bake = json.load(open("deploy/images/docker-bake.json"))
values = {name: os.environ.get(name) or one["default"] for name, one in bake["variable"].items()}
text = lambda value: re.sub(r"\$\{(\w+)\}", lambda match: values[match[1]], value)
if sys.argv[1] == "targets":
    print("\n".join(bake["group"]["default"]["targets"]))
elif sys.argv[1] == "tag":
    print(text(bake["target"][sys.argv[2]]["tags"][0]))
else:
    print("\n".join(f"{name}={text(value)}" for name, value in bake["target"]["any"]["args"].items()))
END
}

base=${BASE:-}
if [ -z "$base" ]; then
    base=localhost/debian:12-slim
    if ! buildah inspect --type image "$base" >/dev/null 2>&1; then
        deploy/images/base.sh bookworm .ship/bookworm.tar
        container=$(buildah from scratch)
        buildah add --quiet "$container" .ship/bookworm.tar / >/dev/null
        buildah config --cmd bash "$container"
        buildah commit --quiet --rm "$container" "$base" >/dev/null
    fi
fi

arguments=()
while read -r one; do arguments+=(--build-arg "$one"); done < <(bake arguments)
if [ -f .wheels/.complete ]; then
    arguments+=(-v "$PWD/.wheels:/wheels:ro" --build-arg PIP_NO_INDEX=1 --build-arg PIP_FIND_LINKS=/wheels)
fi

mapfile -t targets < <(if [ $# -gt 0 ]; then printf '%s\n' "$@"; else bake targets; fi)
for target in "${targets[@]}"; do
    [ "$target" != ayaflow ] || [ -f deploy/local/jars/.complete ] || die "Kafka's jars are missing; run make setup"
    tag=$(bake tag "$target")
    # chroot: needs no privilege to make namespaces; docker: the format that knows health checks
    buildah build --quiet --isolation chroot --network host --format docker --layers \
        --ulimit nofile=4096:4096 --ulimit nproc=1000:1000 \
        --timestamp "${SOURCE_DATE_EPOCH:-0}" --ignorefile deploy/images/Containerfile.dockerignore \
        -f deploy/images/Containerfile --target "$target" --build-arg "BASE=$base" "${arguments[@]}" -t "$tag" . >/dev/null
    printf '%s\t%s\n' "$tag" "$(buildah images --format '{{.Size}}' "$tag")"
done
