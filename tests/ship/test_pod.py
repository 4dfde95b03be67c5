"""The DaemonSet's container on this machine, by podman: packets are in Kafka, and nothing is left when it has ended.

Each field of the pod's template becomes what a kubelet asks of a container engine; one that is not known here fails the
test. (`podman kube play` of Debian 12 takes no pod of the node's network whose container names its ports.) The seccomp
profile is deploy/seccomp/producer.json, which a kubelet would be told of by `producer.seccomp`.
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
from tests.ship.test_chart import FULL, PLAIN, Object, one, pod
from tests.ship.test_compose import get
from tests.waiting import until

pytestmark = [pytest.mark.ship, pytest.mark.timeout(900)]

SECCOMP = REPOSITORY / "deploy/seccomp/producer.json"
PACKETS = 700
MANIFESTS = {"producer": PLAIN, "producer-object": FULL}
# of a scheduler, a kubelet's own services, and probes, which nobody makes here
NOT_OF_THE_ENGINE = {"nodeSelector", "tolerations", "priorityClassName", "imagePullSecrets", "dnsPolicy"}
NOT_OF_THE_ENGINE |= {"automountServiceAccountToken", "enableServiceLinks", "terminationGracePeriodSeconds"}
NOT_OF_THE_CONTAINER = {"name", "image", "imagePullPolicy", "ports", "resources"}
NOT_OF_THE_CONTAINER |= {"startupProbe", "livenessProbe", "readinessProbe"}


class Named(NamedTuple):
    """What is asked of a node."""

    name: str


def options(spec: Object, node: str, place: Path, settings: Object) -> list[str]:
    """What the engine is asked for. `place`: of the node's data and the pod's own volumes; `settings`: ayaflow.yaml."""
    spec, made = dict(spec), list[str]()
    [container], volumes = spec.pop("containers"), {each["name"]: each for each in spec.pop("volumes")}
    container = dict(container)
    assert spec.pop("hostNetwork") is True
    made += ["--network=host", f"--group-add={spec.pop('securityContext')['fsGroup']}"]
    assert spec.keys() <= NOT_OF_THE_ENGINE, spec.keys()
    for each in container.pop("env"):
        assert each["valueFrom"] == {"fieldRef": {"fieldPath": "spec.nodeName"}}
        made.append(f"--env={each['name']}={node}")
    security = dict(container.pop("securityContext"))
    assert (security.pop("allowPrivilegeEscalation"), security.pop("readOnlyRootFilesystem")) == (False, True)
    made += ["--security-opt=no-new-privileges", "--read-only", "--read-only-tmpfs=false"]
    made += [f"--user={security.pop('runAsUser')}", f"--security-opt=seccomp={SECCOMP}"]
    assert security.pop("seccompProfile")["type"] in {"RuntimeDefault", "Localhost"}
    capabilities = security.pop("capabilities")
    made += [f"--cap-drop={name}" for name in capabilities["drop"]] + [
        f"--cap-add={name}" for name in capabilities["add"]
    ]
    assert not security
    for each in container.pop("volumeMounts"):
        source = volumes[each["name"]]
        if "hostPath" in source:
            where = place / "data" if each["name"] == "data" else Path(source["hostPath"]["path"])
        elif "secret" in source:
            continue  # for a broker with passwords, which this is not
        else:
            where = place / each["name"]
        if where.is_relative_to(place):
            where.mkdir(exist_ok=True)
        if "configMap" in source:
            (where / "ayaflow.yaml").write_text(yaml.safe_dump(settings))
        made.append(f"--volume={where}:{each['mountPath']}{':ro' * each.get('readOnly', False)}")
    arguments = container.pop("args")
    assert container.keys() <= NOT_OF_THE_CONTAINER, container.keys()
    return [*made, node, *arguments]


def command(images: Images, part: str, node: str, place: Path, changed: Object) -> list[str]:
    """podman's, for the pod of a node."""
    told = yaml.safe_load(one(PLAIN, "ConfigMap", "producer")["data"]["ayaflow.yaml"])
    for section, values in changed.items():
        told[section] = {**told.get(section, {}), **values}
    *words, name, producer, config, file = options(pod(MANIFESTS[part], "producer"), node, place, told)
    return ["run", "--detach", f"--name={name}", *words, images.name(part), producer, config, file]


@contextmanager
def running(images: Images, words: list[str], node: str, seconds: int) -> Iterator[None]:
    """Run the container; it has ended, within its grace, and is gone afterwards."""
    images.podman.podman(*words)
    try:
        yield
    except BaseException:
        print(images.podman.podman("logs", node, check=False))
        raise
    finally:
        images.podman.podman("stop", f"--time={seconds}", node, check=False)
        [state] = json.loads(images.podman.podman("inspect", node))
        images.podman.podman("rm", "--force", node, check=False)
    assert state["State"]["ExitCode"] == 0


@pytest.mark.parametrize("part", list(MANIFESTS))
def test_the_pods_container_counts_packets_as_nobody_and_leaves_nothing(
    images: Images, kafka_broker: str, tmp_path: Path, part: str
) -> None:
    node, port = f"pod-{part}", free_port()
    with veth.pair() as (a, _):
        changed = {
            "kafka": {"bootstrap_servers": kafka_broker},
            "capture": {"interfaces": [f"{a.rstrip('0123456789')}*"]},  # and what comes later
            "producer": {"metrics_listen": f"127.0.0.1:{port}"},
        }
        words = command(images, part, node, tmp_path, changed)
        with running(images, words, node, pod(PLAIN, "producer")["terminationGracePeriodSeconds"]):

            def health() -> dict[str, Any]:
                return get(f"http://127.0.0.1:{port}/health") or {}

            until(lambda: health().get("ok"), lambda: images.podman.podman("logs", node, check=False))
            [state] = json.loads(images.podman.podman("inspect", node))
            may_do_nothing(state["State"]["Pid"])
            veth.send(a, *(octets for octets, _ in frames(PACKETS)))
            until(lambda: health()["packets"] == PACKETS and not health()["queue"], health)
            with veth.pair() as (later, _):
                until(lambda: hooks(later), health)
                veth.send(later, *(octets for octets, _ in frames(70)))
                until(lambda: health()["packets"] == PACKETS + 70 and not health()["queue"], health)
        assert not hooks(a)
    values = batches_of(kafka_broker, Named(node))  # type: ignore[arg-type]
    batches = [Codec().decode_packet_batch(value) for value in values]
    once(batches)
    sums = check_ledger(batches)
    assert (sums["emitted"], sums["seen"]) == (PACKETS + 70, PACKETS + 70)
    left = subprocess.run(
        [sys.executable, "-m", "cli.main", "detach"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert left.stdout == "nothing of ayaflow was attached or pinned here\n"
