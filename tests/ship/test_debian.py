"""A Debian 13 from nothing, by what docs/operations.md says, to packets that a broker has."""

import contextlib
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
from tests.ship.test_compose import get
from tests.waiting import until

pytestmark = [pytest.mark.ship, pytest.mark.timeout(1800)]

PACKETS = 1000
NODE = "trixie"


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
            ("--bind", "/lib/modules", "usr/lib/modules"),
            ("--bind", "/usr/src", "usr/src"),
            ("--bind", str(REPOSITORY), "root/ayaflow"),
        ]
        done = []
        try:
            for *words, below in mounts:
                place = root / below
                place.mkdir(parents=True, exist_ok=True)
                subprocess.run(["mount", *words, place], check=True)
                done.append(place)
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
        done = subprocess.run(
            [
                *OUTSIDE,
                "chroot",
                root,
                "/root/ayaflow/deploy/systemd/install.sh",
                f"/root/wheel/{wheel.name}",
                "producer",
            ],
            env=within,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.endswith("then: systemctl enable --now ayaflow-producer\n")
        port = free_port()
        log = tmp_path / "producer.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [
                    *("chroot", root, "/opt/ayaflow/bin/ayaflow", "producer", "--config", "/etc/ayaflow/ayaflow.yaml"),
                    *("--interface", a, "--node", NODE, "--data-dir", "/tmp/ayaflow"),
                    *("--set", f"kafka.bootstrap_servers={kafka_broker}", "--set", "capture.bpffs=/sys/fs/bpf"),
                    *("--set", f"producer.metrics_listen=127.0.0.1:{port}"),
                ],
                env=within,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                text=True,
            )
        try:
            until(lambda: (get(f"http://127.0.0.1:{port}/health") or {}).get("ok"), log.read_text)
            frame = bytes(Ether(dst="02:00:00:00:00:02") / IP(src="10.1.2.3", dst="10.3.2.1") / UDP(sport=1, dport=2))
            veth.send(a, *[frame] * PACKETS)
            until(lambda: counted(kafka_broker) == PACKETS, log.read_text)
        finally:
            code = stop(process)
        assert code == 0, log.read_text()


def counted(bootstrap: str) -> int:
    """Packets of the node that the broker has."""
    node = Named(NODE)
    values = batches_of(bootstrap, node)  # type: ignore[arg-type]
    found = by_flow([Codec().decode_packet_batch(value) for value in values])
    return sum(number for (_, what), number in found.items() if what == "packets")
