"""deploy/chart: what it renders to, against Kubernetes' own schemas, and what must stand in it.

What is rendered is committed: deploy/kubernetes/ayaflow.yaml by the values' defaults, tests/ship/golden_chart.yaml with
everything on. That it is what Helm's code makes of the chart is checked where that was built (`make test-chart`).
"""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

import common.settings
from producer.component import FINISH_SECONDS
from tests.fix_local import REPOSITORY

CHART = REPOSITORY / "deploy/chart"
PLAIN = REPOSITORY / "deploy/kubernetes/ayaflow.yaml"
SIDECAR = REPOSITORY / "deploy/kubernetes/sidecar.yaml"
FULL, FULL_VALUES = (REPOSITORY / f"tests/ship/{name}.yaml" for name in ("golden_chart", "golden_values"))
PLAIN_VALUES = REPOSITORY / "deploy/kubernetes/values.yaml"
HELM = Path(os.environ.get("CHART_PROGRAM", REPOSITORY / ".venv/bin/ayaflow-chart"))
SCHEMA: Any = json.loads((CHART / "values.schema.json").read_text())
VALUES: Any = yaml.safe_load((CHART / "values.yaml").read_text())
MINORS = ("1.25", "1.29", "1.37")
SIDECARS = "1.29"  # the first that knows them without a feature gate
OPERATORS = {"PodMonitor", "PrometheusRule"}  # kinds of the Prometheus operator, of which there is no schema here

Object = dict[str, Any]


def objects(path: Path) -> list[Object]:
    return [each for each in yaml.safe_load_all(path.read_text()) if each]


def one(path: Path, kind: str, part: str) -> Object:
    [found] = [
        each for each in objects(path) if each["kind"] == kind and each["metadata"]["name"].endswith(f"-{part}")
    ] or [{}]
    return found


def pod(path: Path, part: str) -> Object:
    kind = "DaemonSet" if part == "producer" else "Deployment"
    spec: Object = one(path, kind, part)["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize(
    ("path", "minor"),
    [(path, minor) for path in (PLAIN, FULL, SIDECAR) for minor in MINORS if path != SIDECAR or minor >= SIDECARS],
    ids=lambda value: getattr(value, "name", value),
)
def test_each_object_is_one_of_kubernetes(path: Path, minor: str) -> None:
    for each in objects(path):
        if each["kind"] not in OPERATORS:
            kubernetes_validate.validate(each, minor, strict=True)


def test_the_validation_finds_what_is_wrong() -> None:
    [daemon_set] = [each for each in objects(PLAIN) if each["kind"] == "DaemonSet"]
    for spoil in ({"hostNetworks": True}, {"terminationGracePeriodSeconds": "sixty"}):
        wrong = json.loads(json.dumps(daemon_set))
        wrong["spec"]["template"]["spec"].update(spoil)
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(wrong, MINORS[-1], strict=True)


def test_the_producer_is_given_what_it_needs_and_no_more() -> None:
    spec = pod(PLAIN, "producer")
    [container] = spec["containers"]
    security = container["securityContext"]
    assert security["capabilities"] == {
        "drop": ["ALL"],
        "add": ["BPF", "CHOWN", "NET_ADMIN", "PERFMON", "SETGID", "SETUID"],
    }
    assert (security["allowPrivilegeEscalation"], security["readOnlyRootFilesystem"]) == (False, True)
    assert "privileged" not in security
    assert spec["hostNetwork"] is True
    assert not spec.keys() & {"hostPID", "hostIPC"}
    assert spec["automountServiceAccountToken"] is False
    assert spec["terminationGracePeriodSeconds"] >= max(30, FINISH_SECONDS + 20)
    assert spec["tolerations"] == [{"operator": "Exists"}]
    hosts = {each["hostPath"]["path"] for each in spec["volumes"] if "hostPath" in each}
    assert hosts == {"/sys/fs/bpf", "/var/lib/ayaflow", "/lib/modules", "/usr/src"}
    # a Kafka that is away must not get it killed
    assert "tcpSocket" in container["livenessProbe"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/health"


def test_with_an_object_nothing_of_the_nodes_headers_is_mounted() -> None:
    spec = pod(FULL, "producer")
    [container] = spec["containers"]
    assert container["image"].rpartition("/")[2] == "ayaflow-producer-object:0.1.0"
    hosts = {each["hostPath"]["path"] for each in spec["volumes"] if "hostPath" in each}
    assert hosts == {"/sys/fs/bpf", "/var/lib/ayaflow"}


def test_the_producer_may_read_its_secrets_when_it_is_root_no_more() -> None:
    spec = pod(FULL, "producer")
    assert spec["securityContext"] == {"fsGroup": 10001}
    [secret] = [each["secret"] for each in spec["volumes"] if "secret" in each]
    assert secret["defaultMode"] == 0o440


@pytest.mark.parametrize("part", ["streams", "console"])
def test_the_others_are_restricted(part: str) -> None:
    """By the words of the Pod Security Standards."""
    spec = pod(PLAIN, part)
    [container] = spec["containers"]
    security = container["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] == 10001  # deploy/images
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC"}
    assert all(each.keys() & {"configMap", "secret", "emptyDir"} for each in spec["volumes"])


def test_the_namespace_lets_the_producer_in() -> None:
    [namespace] = [each for each in objects(PLAIN) if each["kind"] == "Namespace"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "privileged"


@pytest.mark.parametrize("path", [PLAIN, FULL], ids=lambda path: path.name)
@pytest.mark.parametrize("part", ["producer", "streams", "console"])
def test_the_settings_of_each_part_are_ones_that_it_takes(path: Path, part: str, tmp_path: Path) -> None:
    config = tmp_path / "ayaflow.yaml"
    config.write_text(one(path, "ConfigMap", part)["data"]["ayaflow.yaml"])
    settings = common.settings.load(config)
    [container] = pod(path, part)["containers"]
    listens = {
        "producer": settings.producer.metrics_listen,
        "streams": settings.streams.metrics_listen,
        "console": settings.console.listen,
    }
    assert listens[part] == f":{container['ports'][0]['containerPort']}"
    assert container["args"] == [part, "--config", "/etc/ayaflow/ayaflow.yaml"]
    [mount] = [each for each in container["volumeMounts"] if each["name"] == "settings"]
    assert mount["mountPath"] == "/etc/ayaflow"


def test_secrets_are_named_and_mounted_and_stand_in_no_settings() -> None:
    secrets = [each for each in objects(FULL) if each["kind"] == "Secret"]
    values = [value for each in secrets for value in each["stringData"].values()]
    assert values
    others = json.dumps([each for each in objects(FULL) if each["kind"] != "Secret"])
    assert not [value for value in values if value in others]
    for part in ("producer", "streams", "console"):
        [mount] = [each for each in pod(FULL, part)["containers"][0]["volumeMounts"] if each["name"] == "secret"]
        assert mount["mountPath"] == "/run/secrets/ayaflow"
        assert "${file:/run/secrets/ayaflow/" in one(FULL, "ConfigMap", part)["data"]["ayaflow.yaml"]


def test_the_rules_are_those_of_prometheus() -> None:
    [rule] = [each for each in objects(FULL) if each["kind"] == "PrometheusRule"]
    assert rule["spec"] == yaml.safe_load((REPOSITORY / "deploy/prometheus/alerts.yml").read_text())


def test_monitors_and_policies_select_pods_and_ports_that_are_there() -> None:
    for each in objects(FULL):
        if each["kind"] in {"PodMonitor", "NetworkPolicy", "Service", "PodDisruptionBudget"}:
            part = each["metadata"]["name"].rpartition("-")[2]
            workload = one(FULL, "DaemonSet" if part == "producer" else "Deployment", part)
            labels = workload["spec"]["template"]["metadata"]["labels"]
            spec = each["spec"]
            wanted = spec.get("podSelector", spec.get("selector"))
            assert wanted.get("matchLabels", wanted).items() <= labels.items()
            ports = {port["name"] for port in workload["spec"]["template"]["spec"]["containers"][0]["ports"]}
            named = re.findall(r'"(?:port|targetPort)": "(\w+)"', json.dumps(spec))
            assert set(named) <= ports, each["metadata"]["name"]


def described(schema: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Each value's path, with what the schema says of it."""
    for name, said in schema.get("properties", {}).items():
        yield f"{path}{name}", said.get("description", "")
        yield from described(said, f"{path}{name}.")


def paths(values: Any, known: set[str], path: str = "") -> Iterator[str]:
    """The paths of values, as deep as the schema goes."""
    for name, value in values.items():
        yield f"{path}{name}"
        if isinstance(value, dict) and any(each.startswith(f"{path}{name}.") for each in known):
            yield from paths(value, known, f"{path}{name}.")


def test_each_value_is_described_and_checked() -> None:
    jsonschema.validate(VALUES, SCHEMA)
    said = dict(described(SCHEMA))
    assert [path for path, text in said.items() if not text] == []
    assert set(paths(VALUES, set(said))) == set(said) - {"global"}  # which is Helm's own


@pytest.mark.parametrize(
    "wrong",
    [
        {"streams": {"replica": 3}},
        {"streams": {"replicas": "three"}},
        {"producer": {"terminationGracePeriodSeconds": 10}},
        {"producer": {"seccomp": {"type": "Local"}}},
        {"settings": {"kafak": {}}},
        {"image": "ayaflow"},
    ],
    ids=json.dumps,
)
def test_a_value_that_is_none_is_refused(wrong: Any) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, SCHEMA)


def test_the_sidecar_sees_its_pod_alone() -> None:
    [spec] = [each["spec"] for each in objects(SIDECAR) if each["kind"] == "Pod"]
    assert "hostNetwork" not in spec
    [sidecar] = [each for each in spec["initContainers"] if each["name"] == "ayaflow-producer"]
    assert sidecar["restartPolicy"] == "Always"  # a container beside the others, which ends after them
    [producer] = pod(PLAIN, "producer")["containers"]
    assert sidecar["securityContext"]["capabilities"] == producer["securityContext"]["capabilities"]
    assert spec["terminationGracePeriodSeconds"] >= 30


_skipped = pytest.mark.skipif(not HELM.exists(), reason="Helm's code is not built: make test-chart builds it")


def needs_helm(test: Any) -> Any:
    """Run by make test-chart alone."""
    return pytest.mark.wide(_skipped(test))


def helm(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([HELM, *map(str, words)], capture_output=True, text=True, check=False)


@needs_helm
@pytest.mark.parametrize(("path", "values"), [(PLAIN, PLAIN_VALUES), (FULL, FULL_VALUES)], ids=lambda path: path.name)
def test_what_is_committed_is_what_helm_makes_of_the_chart(path: Path, values: Path) -> None:
    done = helm("template", "ayaflow", "ayaflow", CHART, values)
    assert done.returncode == 0, done.stderr
    assert path.read_text().partition("---\n")[2] == done.stdout.partition("---\n")[2], "run: make manifests"


@needs_helm
@pytest.mark.parametrize("values", [PLAIN_VALUES, FULL_VALUES], ids=lambda path: path.name)
def test_helms_linter_finds_nothing(values: Path) -> None:
    done = helm("lint", CHART, values)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_helm
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("console: {ingress: {enabled: true}}", "whoever reaches it could read all traffic records"),
        ("streams: {secret: {name: a, data: {b: c}}}", "streams.secret: give name, of a Secret of yours, or data"),
        ("streams: {replicas: many}", "replicas"),
    ],
)
def test_values_that_cannot_be_are_refused_with_a_sentence(values: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(values)
    done = helm("template", "ayaflow", "ayaflow", CHART, file)
    assert done.returncode == 1
    assert message in done.stderr


@needs_helm
@pytest.mark.parametrize("part", ["producer", "streams", "console"])
def test_a_part_may_be_left_out(part: str, tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(f"{part}: {{enabled: false}}\n")
    rendered = tmp_path / "rendered.yaml"
    rendered.write_text(helm("template", "ayaflow", "ayaflow", CHART, file).stdout)
    names = {each["metadata"]["name"] for each in objects(rendered)}
    assert names
    assert not [name for name in names if name.endswith(f"-{part}")]
