"""A Debian 13 from nothing, by what docs/operations.md says and its own headers, to packets that a broker has."""

import contextlib
import platform
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from schemas.avro.codec import Codec
from tests.e2e.fix_producer import batches_of, by_flow
from tests.fix_local import REPOSITORY, free_port, stop
from tests.kernel import veth
from tests.ship import extras
from tests.ship.podman import APART, OUTSIDE, is_apart
from tests.ship.status import may_do_nothing
from tests.ship.test_compose import get
from tests.waiting import until

pytestmark = [pytest.mark.ship, pytest.mark.timeout(1800)]

PACKETS = 1000
# without the compilers that they depend on, which only modules of the kernel need
UNPACK_HEADERS = """
cd /tmp
arch=$(dpkg --print-architecture)
tree=$(apt-cache depends linux-headers-cloud-$arch | sed -n 's/.*Depends: \\(linux-headers-.*\\)/\\1/p')
apt-get download -qq -o APT::Sandbox::User=root "$tree" "${tree%-cloud-$arch}-common"
for each in *.deb; do dpkg-deb -x "$each" /; done
"""
FRAME = bytes(Ether(dst="02:00:00:00:00:02") / IP(src="10.1.2.3", dst="10.3.2.1") / UDP(sport=1, dport=2))


class Named(NamedTuple):
    """What is asked of a node."""

    name: str


@contextlib.contextmanager
def debian(suite: str, tools: None) -> Iterator[Path]:
    """The files of a Debian with what a machine mounts; gone afterwards."""
    assert is_apart(), APART
    tar = REPOSITORY / ".ship" / f"{suite}.tar"
    subprocess.run([*OUTSIDE, REPOSITORY / "deploy/images/base.sh", suite, tar], check=True)
    with tempfile.TemporaryDirectory(prefix=f"{suite}-", dir=REPOSITORY / ".ship") as directory:
        root = Path(directory)
        subprocess.run(["tar", "-C", root, "-xf", tar], check=True)
        mounts = [
            ("-t", "proc", "proc", "proc"),
            ("-t", "sysfs", "sysfs", "sys"),
            ("-t", "bpf", "bpf", "sys/fs/bpf"),
            ("-t", "tmpfs", "tmpfs", "tmp"),
            ("--rbind", "/dev", "dev"),
            ("--bind", str(REPOSITORY), "root/ayaflow"),
        ]
        done = []
        try:
            for *words, below in mounts:
                place = root / below
                place.mkdir(parents=True, exist_ok=True)
                subprocess.run(["mount", *words, place], check=True)
                done.append(place)
            (root / "etc/dpkg/dpkg.cfg.d/unsafe-io").write_text("force-unsafe-io\n")  # it is gone soon
            (root / "etc/resolv.conf").write_text(Path("/etc/resolv.conf").read_text())
            # those whom this machine trusts, for a registry that is reached through a proxy
            (root / "usr/local/share/registry.crt").write_text(Path("/etc/ssl/certs/ca-certificates.crt").read_text())
            yield root
        finally:
            for place in reversed(done):
                subprocess.run(["umount", "--lazy", "--recursive", place], check=True)


def test_a_debian_13_counts_packets_after_what_the_page_says(tools: None, kafka_broker: str, tmp_path: Path) -> None:
    with veth.pair() as (a, _), debian("trixie", tools) as root:
        wheel = extras.build(tmp_path)
        (root / "root/wheel").mkdir()
        (root / "root/wheel" / wheel.name).write_bytes(wheel.read_bytes())
        within = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "PIP_CERT": "/usr/local/share/registry.crt"}

        def run(*words: str) -> str:
            done = subprocess.run(
                [*OUTSIDE, "chroot", root, *words], env=within, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        said = run("/root/ayaflow/deploy/systemd/install.sh", f"/root/wheel/{wheel.name}", "producer")
        assert said.endswith("then: systemctl enable --now ayaflow-producer\n")
        run("sh", "-euc", UNPACK_HEADERS)
        headers(root)
        for loader in ("object", "bcc"):
            with producing(root, within, loader, a, kafka_broker, tmp_path / f"{loader}.log") as log:
                veth.send(a, *[FRAME] * PACKETS)
                until(lambda node=loader: counted(kafka_broker, node) == PACKETS, log.read_text)  # type: ignore[misc]


@contextlib.contextmanager
def producing(
    root: Path, within: dict[str, str], loader: str, interface: str, broker: str, log: Path
) -> Iterator[Path]:
    """The producer, as a node named after its loader; it ends well -> its log."""
    port = free_port()
    with log.open("w") as output:
        process = subprocess.Popen(
            [
                *("chroot", root, "/opt/ayaflow/bin/ayaflow", "producer", "--config", "/etc/ayaflow/ayaflow.yaml"),
                *("--interface", interface, "--node", loader, "--data-dir", "/var/lib/ayaflow"),
                *("--set", f"kafka.bootstrap_servers={broker}", "--set", "capture.bpffs=/sys/fs/bpf"),
                *("--set", f"producer.metrics_listen=127.0.0.1:{port}", "--set", f"capture.loader={loader}"),
            ],
            env=within,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            text=True,
        )
    try:
        until(lambda: (get(f"http://127.0.0.1:{port}/health") or {}).get("ok"), log.read_text)
        may_do_nothing(process.pid)
        yield log
    finally:
        code = stop(process)
    assert code == 0, log.read_text()


def headers(root: Path) -> None:
    """Lay the suite's headers where bcc looks for those of the kernel that runs here."""
    [tree] = root.glob("usr/src/linux-headers-*-cloud-*")
    [common] = root.glob("usr/src/linux-headers-*-common")
    print(f"\n{tree.name}")
    modules = root / "usr/lib/modules" / platform.release()
    modules.mkdir(parents=True)
    (modules / "build").symlink_to(f"/usr/src/{tree.name}")
    (modules / "source").symlink_to(f"/usr/src/{common.name}")


def counted(bootstrap: str, node: str) -> int:
    """Packets of the node that the broker has."""
    values = batches_of(bootstrap, Named(node))  # type: ignore[arg-type]
    found = by_flow([Codec().decode_packet_batch(value) for value in values])
    return sum(number for (_, what), number in found.items() if what == "packets")
