#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Sets up all that ayaflow needs on this machine: Debian/Ubuntu packages, kernel headers that bcc can use,
# the virtual environment and Kafka's jars. Each step looks first and does nothing when its result is there,
# so a second run reaches no registry.
#
#   deploy/local/setup.sh [run|test|bench|ship|cluster|replica]
#
# "test" adds what only the tests need, "bench" also what only benchmarks do, "ship" also what images and units are built
# and run with, "cluster" also an apiserver of Kubernetes, "replica" also ZooKeeper.
set -euo pipefail
cd "$(dirname "$0")/../.."

purpose=${1:-run}
venv=.venv
jars=deploy/local/jars
kernel=$(uname -r)
modules=/lib/modules/$kernel

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: error: %s\n' "$*" >&2; exit 1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif sudo -n true 2>/dev/null; then sudo "$@"
    else return 127
    fi
}

# --- Debian packages -------------------------------------------------------------------------------------------
have_package() { dpkg-query -W -f='${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; }

wanted() {
    have_package python3-bpfcc || echo python3-bpfcc
    /usr/bin/python3 -c 'import ensurepip' 2>/dev/null || echo python3-venv
    command -v ip >/dev/null && command -v tc >/dev/null || echo iproute2
    command -v java >/dev/null || echo default-jre-headless
    command -v gcc >/dev/null || echo gcc libc6-dev
    # Maven is a tool of the set-up alone: not needed again once the jars are here
    { [ -f "$jars/.complete" ] && { [ "$purpose" = run ] || [ -f tests/integration/registry/.complete ]; }; } || command -v mvn >/dev/null || echo maven
    if [ "$purpose" != run ]; then
        command -v clang >/dev/null || echo clang
        command -v javac >/dev/null || echo default-jdk-headless
        command -v kcat >/dev/null || echo kcat
        command -v ethtool >/dev/null || echo ethtool
        command -v tshark >/dev/null || echo tshark
        command -v npm >/dev/null || echo npm
        command -v chromium >/dev/null || echo chromium fonts-dejavu-core
        command -v systemd-analyze >/dev/null || echo systemd
    fi
    if [ "$purpose" = bench ]; then
        command -v pmacctd >/dev/null || echo pmacct
    fi
    if [ "$purpose" = replica ]; then
        [ -e /usr/share/java/zookeeper.jar ] || echo zookeeper
    fi
    if [ "$purpose" = ship ]; then
        command -v buildah >/dev/null || echo buildah
        command -v podman >/dev/null || echo podman
        command -v crun >/dev/null || echo crun
        command -v mmdebstrap >/dev/null || echo mmdebstrap
        command -v systemd-nspawn >/dev/null || echo systemd-container
        command -v qemu-aarch64-static >/dev/null || echo qemu-user-static
        command -v aarch64-linux-gnu-gcc >/dev/null || echo gcc-aarch64-linux-gnu libc6-dev-arm64-cross
    fi
}

headers_found() { [ -e "$modules/build/include/linux/kconfig.h" ] || [ -e "$modules/source/include/linux/kconfig.h" ] || [ -e /sys/kernel/kheaders.tar.xz ]; }

install_packages() {
    [ $# -gt 0 ] || return 0
    command -v apt-get >/dev/null || die "this machine has no apt-get; install the equivalents of: $*"
    say "installing Debian packages: $*"
    as_root true || die "these packages are missing: $*. Run this again as root, or: sudo apt-get install $*"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null \
        || die "apt-get could not install: $*. Its messages are above; try: sudo apt-get install $*"
}

# --- kernel headers --------------------------------------------------------------------------------------------
# bcc compiles against the headers of the running kernel. Where no package matches (a cloud or self-built kernel),
# a close tree of the distribution serves: our program only uses the stable UAPI and struct __sk_buff.
newest_tree() { find /usr/src -maxdepth 1 -name 'linux-headers-*' \( -name '*-cloud-*' -o -name '*-generic' -o -name "*-$(dpkg --print-architecture)" -o -name '*-virtual' \) | sort -V | tail -n 1; }

headers() {
    headers_found && return 0
    local arch tree package candidates
    arch=$(dpkg --print-architecture)
    if [ -z "$(newest_tree)" ]; then
        as_root true || die "kernel headers are missing. Run this again as root, or: sudo apt-get install linux-headers-$kernel"
        as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
        candidates="linux-headers-$kernel linux-headers-cloud-$arch linux-headers-virtual linux-headers-$arch linux-headers-generic"
        for package in $candidates; do
            if apt-cache show "$package" >/dev/null 2>&1; then
                install_packages "$package"
                break
            fi
        done
    fi
    headers_found && return 0
    tree=$(newest_tree)
    [ -n "$tree" ] || die "found no kernel headers for $kernel; tried: ${candidates:-nothing}. Install a linux-headers package and run this again"
    say "no headers package matches kernel $kernel; linking $modules to $tree"
    as_root mkdir -p "$modules"
    as_root ln -sfn "$tree" "$modules/build"
    local common=${tree%-cloud-"$arch"}
    common=${common%-"$arch"}-common
    [ -d "$common" ] || common=$tree          # Ubuntu's trees are whole
    as_root ln -sfn "$common" "$modules/source"
    headers_found || die "$tree is not a usable header tree; install linux-headers-$kernel"
}

# --- virtual environment ---------------------------------------------------------------------------------------
# Debian's own python3 and its site-packages: bcc's Python binding exists only there.
environment() {
    local stamp extras=local
    [ "$purpose" = run ] || extras=local,test
    stamp=$(cat pyproject.toml constraints.txt deploy/requirements/*.txt schemas/avro/rows.c schemas/avro/reader.c ayaflow/consume/identities.c producer/capture/read_records.c producer/names/parsers/*.c bpf/event.h | sha256sum | cut -d' ' -f1)
    case "$(cat $venv/.ayaflow-stamp 2>/dev/null)" in
        "$stamp $extras" | "$stamp local,test") return 0 ;;
    esac
    /usr/bin/python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "/usr/bin/python3 is older than 3.11; use Debian 12, Ubuntu 24.04 or newer"
    say "creating the virtual environment in $venv"
    [ -x $venv/bin/python ] || /usr/bin/python3 -m venv --system-site-packages $venv
    { $venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes \
            -r deploy/requirements/build.txt -r deploy/requirements/local.txt \
        && $venv/bin/python -m pip install --quiet --disable-pip-version-check --no-build-isolation -c constraints.txt -e ".[$extras]"; } \
        || die "pip could not install the dependencies; its messages are above"
    echo "$stamp $extras" > $venv/.ayaflow-stamp
}

# --- the kernel program, compiled beforehand, where there is a clang: for capture.loader object ---------------------
objects() {
    command -v clang >/dev/null || return 0
    $venv/bin/python -m producer.kernel.load.objects || die "clang could not compile the kernel program; its messages are above"
}

# --- the wheels of each extra, for the tests alone: they install them without a registry ---------------------------
wheels() {
    [ "$purpose" != run ] || return 0
    local stamp
    stamp=$(cat deploy/requirements/*.txt | sha256sum | cut -d' ' -f1)
    [ "$(cat .wheels/.complete 2>/dev/null)" = "$stamp" ] && return 0
    say "fetching the wheels that tests/ship installs"
    rm -rf .wheels
    $venv/bin/python -m pip download --quiet --disable-pip-version-check --require-hashes -d .wheels \
        -r deploy/requirements/build.txt -r deploy/requirements/local.txt \
        || die "pip could not fetch wheels; its messages are above"
    echo "$stamp" > .wheels/.complete
}

# --- Kafka's jars ----------------------------------------------------------------------------------------------
kafka() {
    local stamp
    stamp=$(sha256sum < deploy/local/kafka/pom.xml | cut -d' ' -f1)
    [ "$(cat $jars/.complete 2>/dev/null)" = "$stamp" ] && return 0
    say "fetching Apache Kafka's jars from Maven Central"
    rm -rf $jars
    mvn -q -B -f deploy/local/kafka/pom.xml dependency:copy-dependencies -DoutputDirectory="$PWD/$jars" \
        || die "Maven could not fetch Kafka's jars; its messages are above"
    echo "$stamp" > $jars/.complete
}

# --- Kafka's classes as this Java has parsed them: brokers start in two thirds of the time -------------------------
kafka_classes() {
    local stamp archive=deploy/local/kafka/classes.jsa
    stamp=$({ java -version 2>&1; readlink -f "$jars"; cat deploy/local/kafka/pom.xml; } | sha256sum | cut -d' ' -f1)
    [ "$(cat $archive.stamp 2>/dev/null)" = "$stamp" ] && return 0
    say "having Java write an archive of Kafka's classes"
    $venv/bin/python -m deploy.local.kafka.archive || die "it could not be written; the messages are above"
    echo "$stamp" > $archive.stamp
}

# --- a schema registry, for the tests alone --------------------------------------------------------------------
registry() {
    [ "$purpose" != run ] || return 0
    local target=tests/integration/registry stamp
    stamp=$(sha256sum < tests/integration/registry.pom.xml | cut -d' ' -f1)
    [ "$(cat $target/.complete 2>/dev/null)" = "$stamp" ] && return 0
    say "fetching Apicurio Registry from Maven Central"
    rm -rf $target
    mvn -q -B -f tests/integration/registry.pom.xml dependency:unpack-dependencies -DoutputDirectory="$PWD/$target" \
        -DmarkersDirectory="$PWD/$target/.markers" \
        || die "Maven could not fetch Apicurio Registry; its messages are above"
    echo "$stamp" > $target/.complete
}

# --- TypeScript's compiler, which checks the dashboard's JavaScript, for the tests alone --------------------------
typescript() {
    local wanted=typescript@7.0.2
    [ "$purpose" != run ] || return 0
    [ "$(cat $venv/typescript/.complete 2>/dev/null)" = "$wanted" ] && return 0
    say "installing $wanted in $venv/typescript"
    npm install --silent --no-audit --no-fund --prefix $venv/typescript "$wanted" \
        || die "npm could not install $wanted; its messages are above"
    echo "$wanted" > $venv/typescript/.complete
}

# --- the AsyncAPI initiative's own parser, which checks docs/asyncapi.json, for the tests alone ---------------------
asyncapi_parser() {
    local wanted="@asyncapi/parser@3.6.3 @asyncapi/avro-schema-parser@3.0.24"
    [ "$purpose" != run ] || return 0
    [ "$(cat $venv/asyncapi/.complete 2>/dev/null)" = "$wanted" ] && return 0
    say "installing $wanted in $venv/asyncapi"
    # shellcheck disable=SC2086
    npm install --silent --no-audit --no-fund --prefix $venv/asyncapi $wanted \
        || die "npm could not install $wanted; its messages are above"
    echo "$wanted" > $venv/asyncapi/.complete
}

# --- Prometheus' checker of metrics and rules, for the tests; Prometheus itself, which runs beside the images; etcd ---
# Their packages would start servers, so only the programs are taken out of them.
of_package() {
    local package=$1 program=$2 folder
    if command -v "$program" >/dev/null || [ -x "$venv/bin/$program" ]; then return 0; fi
    say "taking $program out of Debian's package $package"
    folder=$(mktemp -d)
    { (cd "$folder" && apt-get download -qq -o APT::Sandbox::User=root "$package" >/dev/null 2>&1 \
        && dpkg-deb -x "$package"_*.deb . ) && cp "$folder/usr/bin/$program" "$venv/bin/$program"; } \
        || die "could not get $program from Debian's package $package; try: sudo apt-get update, and run this again"
    rm -rf "$folder"
}

servers() {
    [ "$purpose" != run ] || return 0
    of_package prometheus promtool
    [ "$purpose" != ship ] || of_package prometheus prometheus
    [ "$purpose" != cluster ] || of_package etcd-server etcd
}

# --- an apiserver of Kubernetes, of the version in its go.mod; and what the Prometheus operator's objects are -----------
apiserver() {
    [ "$purpose" = cluster ] || return 0
    local modules=tests/ship/cluster version operator folder
    version=$(sed -n 's/^\tk8s.io\/kubernetes \(v[0-9.]*\)$/\1/p' $modules/go.mod)
    operator=$(sed -n 's/^\/\/ objects of prometheus-operator \(v[0-9.]*\)$/\1/p' $modules/go.mod)
    command -v go >/dev/null || die "go is missing, 1.24 or newer; install it from https://go.dev/dl"
    mkdir -p .ship
    if [ ! -x ".ship/kube-apiserver-$version" ]; then
        say "compiling kube-apiserver $version: some 15 minutes of CPU"
        (cd $modules && CGO_ENABLED=0 nice go build -buildvcs=false -trimpath \
            -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$version" -o "$OLDPWD/.ship/kube-apiserver.part" .) \
            || die "go could not compile it; its messages are above"
        mv .ship/kube-apiserver.part ".ship/kube-apiserver-$version"
    fi
    ln -sf "kube-apiserver-$version" .ship/kube-apiserver
    if [ ! -d ".ship/prometheus-operator-$operator" ]; then
        say "fetching the definitions of prometheus-operator $operator from Go's proxy"
        folder=$(cd / && go mod download -json "github.com/prometheus-operator/prometheus-operator@$operator" \
            | sed -n 's/^\t"Dir": "\(.*\)",\?$/\1/p')
        [ -d "$folder/example/prometheus-operator-crd" ] || die "Go's proxy has no prometheus-operator $operator"
        mkdir ".ship/prometheus-operator-$operator.part"
        cp "$folder"/example/prometheus-operator-crd/*_{podmonitors,prometheusrules}.yaml ".ship/prometheus-operator-$operator.part"
        mv ".ship/prometheus-operator-$operator.part" ".ship/prometheus-operator-$operator"
    fi
    ln -sfn "prometheus-operator-$operator" .ship/prometheus-operator
}

# --- the Debian that images begin with, and the newer one that is installed from nothing -------------------------------
bases() {
    [ "$purpose" = ship ] || return 0
    local suite
    for suite in bookworm trixie; do
        [ -s .ship/$suite.tar ] && continue
        say "making a Debian $suite in .ship from its packages"
        as_root deploy/images/base.sh $suite .ship/$suite.tar || die "mmdebstrap could not make it; its messages are above"
    done
}

# --- a Python for arm64 with what our C is tested by: packages that are unpacked, and run by an emulator -----------------
other_machine() {
    [ "$purpose" = ship ] || return 0
    local stamp
    stamp=$(cat deploy/requirements/producer.txt constraints.txt | sha256sum | cut -d' ' -f1)
    [ "$(cat .ship/arm64/.complete 2>/dev/null)" = "$stamp" ] && return 0
    say "unpacking a Python for arm64 in .ship"
    rm -rf .ship/arm64
    as_root mmdebstrap --quiet --mode=root --variant=extract --architectures=arm64 \
        --include=libc6,libgcc-s1,libstdc++6,libpython3.11-stdlib,python3.11-minimal,libssl3,libffi8,zlib1g,libexpat1 bookworm .ship/arm64 \
        || die "mmdebstrap could not make it; its messages are above"
    $venv/bin/python -m pip install --quiet --disable-pip-version-check --target .ship/arm64/site --only-binary=:all: \
        --platform manylinux2014_aarch64 --platform manylinux_2_17_aarch64 --platform manylinux_2_28_aarch64 \
        --python-version 3.11 --implementation cp -c constraints.txt \
        numpy fastavro 'confluent-kafka[schemaregistry]' pydantic pyyaml prometheus-client cryptography communityid \
        pyarrow avro scapy dnspython hypothesis pytest pytest-asyncio pytest-timeout \
        || die "pip could not fetch wheels for arm64; its messages are above"
    echo "$stamp" > .ship/arm64/.complete
}

# --- headers of other kernels, of each series one tree, which bcc is tried with -----------------------------------------
other_headers() {
    [ "$purpose" = ship ] || return 0
    local arch tree name series folder
    arch=$(dpkg --print-architecture)
    tree=$(newest_tree)
    for name in $(apt-cache search --names-only "^linux-headers-[0-9.]+.*-cloud-$arch\$" | cut -d' ' -f1 | sort -rV); do
        series=$(expr "$name" : 'linux-headers-\([0-9]*[.][0-9]*\)')
        folder=.ship/headers/$series
        case $tree in *linux-headers-"$series".*) continue ;; esac
        [ ! -e "$folder" ] || continue
        say "taking the kernel headers of $series out of Debian's package $name"
        mkdir -p "$folder.part"
        { (cd "$folder.part" && apt-get download -qq -o APT::Sandbox::User=root "$name" "${name%-cloud-"$arch"}-common" >/dev/null \
            && for each in *.deb; do dpkg-deb -x "$each" .; done && rm ./*.deb); } || die "could not get $name; try: sudo apt-get update"
        mv "$folder.part" "$folder"
    done
}

# --- what benchmarks compare with, apart from our own environment ------------------------------------------------
baselines() {
    local wanted="nfstream==6.6.0 py-spy==0.4.3"
    [ "$purpose" = bench ] || return 0
    [ "$(cat .venv-bench/.ayaflow-stamp 2>/dev/null)" = "$wanted" ] && return 0
    say "installing what benchmarks compare with in .venv-bench: $wanted"
    [ -x .venv-bench/bin/python ] || /usr/bin/python3 -m venv .venv-bench
    # shellcheck disable=SC2086
    .venv-bench/bin/python -m pip install --quiet --disable-pip-version-check $wanted \
        || die "pip could not install $wanted; its messages are above"
    echo "$wanted" > .venv-bench/.ayaflow-stamp
}

# --- whose the parts are that need no privilege -------------------------------------------------------------------
account() {
    getent passwd ayaflow >/dev/null && return 0
    say "making the system user ayaflow"
    as_root useradd --system --user-group --no-create-home --home-dir /var/lib/ayaflow --shell /usr/sbin/nologin ayaflow \
        || say "could not make it: ayaflow up will run its parts as who calls sudo, else as root"
}

# shellcheck disable=SC2046
install_packages $(wanted)
account
headers
environment
objects
wheels
kafka
kafka_classes
registry
typescript
asyncapi_parser
servers
bases
other_machine
other_headers
apiserver
baselines
say "ready"
