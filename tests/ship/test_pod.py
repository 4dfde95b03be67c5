"""The pods of the DaemonSet on this machine, by podman: packets are in Kafka, and nothing is left when they have ended.

What a kubelet knows and podman 4.3 does not is put in its place: the node's name, and where the node keeps data. The
seccomp profile is deploy/seccomp/producer.json, which a kubelet would be told of by `producer.seccomp`.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from schemas.avro.codec import Codec
from tests.e2e.fix_producer import batches_of, check_ledger, frames, once
from tests.fix_local import REPOSITORY, free_port
from tests.kernel import veth
from tests.kernel.attached import hooks
from tests.ship.conftest import Images
from tests.ship.status import may_do_nothing
from tests.ship.test_chart import PLAIN, objects, one
from tests.ship.test_compose import get
from tests.waiting import until

pytestmark = [pytest.mark.ship, pytest.mark.timeout(600)]

SECCOMP = REPOSITORY / "deploy/seccomp"
PACKETS = 700


class Named(NamedTuple):
    """What is asked of a node."""

    name: str


def manifest(images: Images, part: str, node: str, data: Path, settings: dict[str, Any]) -> str:
    """The DaemonSet's pod with its settings; `part`: producer or producer-object."""
    template = one(PLAIN, "DaemonSet", "producer")["spec"]["template"]
    spec = template["spec"]
    [container] = spec["containers"]
    container["image"] = images.name(part)
    [name] = container["env"]
    assert name["valueFrom"]["fieldRef"]["fieldPath"] == "spec.nodeName"
    container["env"] = [{"name": name["name"], "value": node}]
    [volume] = [each for each in spec["volumes"] if each["name"] == "data"]
    volume["hostPath"]["path"] = str(data)
    if part == "producer-object":  # as the chart does with producer.loader: object
        without = {"modules", "src"}
        container["volumeMounts"] = [each for each in container["volumeMounts"] if each["name"] not in without]
        spec["volumes"] = [each for each in spec["volumes"] if each["name"] not in without]
    annotations = {"seccomp.security.alpha.kubernetes.io/pod": "localhost/producer.json"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": node, "labels": template["metadata"]["labels"], "annotations": annotations},
        "spec": spec,
    }
    [mapped] = [
        each for each in objects(PLAIN) if each["kind"] == "ConfigMap" and "producer" in each["metadata"]["name"]
    ]
    told = yaml.safe_load(mapped["data"]["ayaflow.yaml"])
    for section, values in settings.items():
        told[section] = {**told.get(section, {}), **values}
    mapped["data"] = {"ayaflow.yaml": yaml.safe_dump(told)}
    return yaml.safe_dump_all([mapped, pod])


@contextmanager
def played(images: Images, file: Path, node: str) -> Iterator[str]:
    """Run the pod -> the name of its container; it has ended and is gone afterwards."""
    images.podman.podman("play", "kube", "--network=host", f"--seccomp-profile-root={SECCOMP}", file)
    try:
        yield f"{node}-producer"
    except BaseException:
        print(images.podman.podman("logs", f"{node}-producer", check=False))
        raise
    finally:
        images.podman.podman("pod", "stop", "--time=60", node, check=False)
        images.podman.podman("pod", "rm", "--force", node, check=False)


@pytest.mark.parametrize("part", ["producer", "producer-object"])
def test_the_pod_counts_packets_as_nobody_and_leaves_nothing(
    images: Images, kafka_broker: str, tmp_path: Path, part: str
) -> None:
    node, port = f"pod-{part}", free_port()
    with veth.pair() as (a, _):
        pattern = f"{a.rstrip('0123456789')}*"  # and what comes later
        settings = {
            "kafka": {"bootstrap_servers": kafka_broker},
            "capture": {"interfaces": [pattern]},
            "producer": {"metrics_listen": f"127.0.0.1:{port}"},
        }
        file = tmp_path / "pod.yaml"
        file.write_text(manifest(images, part, node, tmp_path / "data", settings))
        with played(images, file, node) as container:

            def health() -> dict[str, Any]:
                return get(f"http://127.0.0.1:{port}/health") or {}

            until(lambda: health().get("ok"), lambda: images.podman.podman("logs", container, check=False))
            [state] = json.loads(images.podman.podman("inspect", container))
            may_do_nothing(state["State"]["Pid"])
            veth.send(a, *(octets for octets, _ in frames(PACKETS)))
            until(lambda: health()["packets"] == PACKETS and not health()["queue"], health)
            with veth.pair() as (later, _):
                until(lambda: hooks(later), health)
                veth.send(later, *(octets for octets, _ in frames(70)))
                until(lambda: health()["packets"] == PACKETS + 70 and not health()["queue"], health)
        assert not hooks(a)
    batches = [Codec().decode_packet_batch(value) for value in batches_of(kafka_broker, Named(node))]  # type: ignore[arg-type]
    once(batches)
    sums = check_ledger(batches)
    assert (sums["emitted"], sums["seen"]) == (PACKETS + 70, PACKETS + 70)
    left = subprocess.run(
        [sys.executable, "-m", "cli.main", "detach"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert left.stdout == "nothing of ayaflow was attached or pinned here\n"
