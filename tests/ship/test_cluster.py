"""What deploy/chart renders to, applied to a real kube-apiserver over a real etcd: `make test-cluster`.

There is no kubelet: pods are taken in, or refused by PodSecurity, and run nowhere. The chart's pods are run by podman
in test_pod.py.
"""

import copy
import json
import ssl
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.fix_local import REPOSITORY, free_port
from tests.lacking import cannot_run
from tests.ship.test_chart import FULL, OPERATORS, PLAIN, SIDECAR, Object, objects, one
from tests.waiting import HANG_SECONDS, until

pytestmark = [pytest.mark.cluster, pytest.mark.root, pytest.mark.timeout(300)]

PROGRAMS = {"etcd": REPOSITORY / ".venv/bin/etcd", "kube-apiserver": REPOSITORY / ".ship/kube-apiserver"}
DEFINITIONS = REPOSITORY / ".ship/prometheus-operator"
TOKEN = "of-the-test"
ADDRESS = "192.0.2.250"  # of tests/apart.sh: an apiserver will not advertise a loopback address
NAMESPACE = "ayaflow"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the apiserver says."""

    status: int
    body: Object
    warnings: list[str]

    @property
    def message(self) -> str:
        """Why not."""
        return str(self.body.get("message", ""))


@dataclass(frozen=True, slots=True)
class Cluster:
    """An apiserver."""

    url: str
    plural: dict[tuple[str, str], tuple[str, bool]]  # by apiVersion and kind: name in paths, whether in a namespace

    def ask(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Answer:
        """A request by who may do everything."""
        unchecked = ssl.create_default_context()
        unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE  # it has made its certificate itself
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": kind},
        )
        try:
            with urllib.request.urlopen(request, timeout=HANG_SECONDS, context=unchecked) as answer:
                octets, status, headers = answer.read(), answer.status, answer.headers
        except urllib.error.HTTPError as error:
            with error:
                octets, status, headers = error.read(), error.code, error.headers
        try:
            told = json.loads(octets)
        except ValueError:
            told = {"message": octets.decode("utf-8", "replace")}
        return Answer(status, told, headers.get_all("Warning") or [])

    def learn(self) -> None:
        """Which kinds there are."""
        groups = [group["preferredVersion"]["groupVersion"] for group in self.ask("GET", "/apis").body["groups"]]
        for version in ("v1", *groups):
            for each in self.ask("GET", f"/{'api' if version == 'v1' else 'apis'}/{version}").body["resources"]:
                if "/" not in each["name"]:
                    self.plural[version, each["kind"]] = (each["name"], each["namespaced"])

    def path(self, of: Object, namespace: str) -> str:
        """Of the objects of its kind."""
        version = of["apiVersion"]
        plural, namespaced = self.plural[version, of["kind"]]
        within = f"namespaces/{of['metadata'].get('namespace', namespace)}/" if namespaced else ""
        return f"/{'api' if version == 'v1' else 'apis'}/{version}/{within}{plural}"

    def apply(self, of: Object, namespace: str = NAMESPACE) -> Answer:
        """As `kubectl apply --server-side --validate=strict` does it."""
        query = urllib.parse.urlencode({"fieldManager": "test", "fieldValidation": "Strict", "force": "true"})
        path = f"{self.path(of, namespace)}/{of['metadata']['name']}?{query}"
        return self.ask("PATCH", path, of, "application/apply-patch+yaml")

    def create(self, of: Object, namespace: str) -> Answer:
        """A new one."""
        return self.ask("POST", self.path(of, namespace), of)


@contextmanager
def process(log: Path, *words: object) -> Iterator[subprocess.Popen[bytes]]:
    """A program that runs until the end."""
    with log.open("wb") as output:
        started = subprocess.Popen([str(word) for word in words], stdout=output, stderr=output, cwd=log.parent)
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(30)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An apiserver that has nothing yet but the kinds of the Prometheus operator."""
    missing = [str(path) for path in (*PROGRAMS.values(), DEFINITIONS) if not path.exists()]
    if missing:
        cannot_run(f"{', '.join(missing)}: not there; run make test-cluster")
    place = tmp_path_factory.mktemp("cluster")
    subprocess.run(["openssl", "genrsa", "-out", place / "key", "2048"], check=True, capture_output=True)
    (place / "tokens").write_text(f"{TOKEN},admin,1,system:masters\n")
    etcd, port = (f"http://127.0.0.1:{free_port()}" for _ in range(2)), free_port()
    clients, peers = etcd
    with ExitStack() as started:
        started.enter_context(
            process(
                place / "etcd.log",
                *(PROGRAMS["etcd"], "--data-dir", place / "etcd"),
                *("--listen-client-urls", clients, "--advertise-client-urls", clients, "--listen-peer-urls", peers),
            )
        )
        log = place / "apiserver.log"
        apiserver = started.enter_context(
            process(
                log,
                *(PROGRAMS["kube-apiserver"], f"--etcd-servers={clients}", f"--cert-dir={place / 'certificates'}"),
                *(f"--secure-port={port}", "--bind-address=127.0.0.1", f"--advertise-address={ADDRESS}"),
                *("--service-cluster-ip-range=10.96.0.0/16", "--authorization-mode=RBAC"),
                *("--service-account-issuer=https://kubernetes.default.svc", f"--token-auth-file={place / 'tokens'}"),
                *(f"--service-account-key-file={place / 'key'}", f"--service-account-signing-key-file={place / 'key'}"),
                "--disable-admission-plugins=ServiceAccount",  # a controller makes the accounts
            )
        )
        made = Cluster(f"https://127.0.0.1:{port}", {})

        def ready() -> bool:
            assert apiserver.poll() is None, log.read_text()
            try:
                return made.ask("GET", "/readyz").status == HTTPStatus.OK
            except OSError:
                return False

        until(ready, log.read_text)
        made.learn()
        for file in sorted(DEFINITIONS.glob("*.yaml")):
            definition = yaml.safe_load(file.read_text())
            assert made.apply(definition).status == HTTPStatus.CREATED, file

        def known() -> bool:
            made.learn()
            return {kind for _, kind in made.plural} >= OPERATORS

        until(known)
        yield made


@pytest.fixture(scope="module")
def namespaces(cluster: Cluster) -> dict[str, str]:
    """Ours, as the chart makes it, and one where PodSecurity enforces `restricted` -> by level."""
    [ours] = [each for each in objects(PLAIN) if each["kind"] == "Namespace"]
    narrow = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "narrow", "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    }
    for each in (ours, narrow):
        assert cluster.apply(each).status in {HTTPStatus.OK, HTTPStatus.CREATED}
    return {"privileged": ours["metadata"]["name"], "restricted": "narrow"}


def pod_of(part: str, path: Path = PLAIN) -> Object:
    """The pod that a controller would make of the part's template."""
    template = one(path, "DaemonSet" if part == "producer" else "Deployment", part)["spec"]["template"]
    metadata = {**template["metadata"], "name": f"test-{part}"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


@pytest.mark.parametrize("path", [PLAIN, FULL, SIDECAR], ids=lambda path: path.name)
def test_all_is_taken_and_the_second_time_nothing_changes(
    cluster: Cluster, namespaces: dict[str, str], path: Path
) -> None:
    """In this order: what the defaults make becomes what everything on makes, as an upgrade does."""
    versions = []
    for _ in range(2):
        answers = [cluster.apply(each) for each in objects(path)]
        assert [each.message for each in answers if each.status not in {HTTPStatus.OK, HTTPStatus.CREATED}] == []
        assert [warning for each in answers for warning in each.warnings] == []
        versions.append([each.body["metadata"]["resourceVersion"] for each in answers])
    assert versions[0] == versions[1]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ({"hostNetworks": True}, "spec.template.spec.hostNetworks: field not declared in schema"),
        ({"terminationGracePeriodSeconds": "sixty"}, "terminationGracePeriodSeconds"),
        ({"dnsPolicy": "ClusterLast"}, 'spec.template.spec.dnsPolicy: Unsupported value: "ClusterLast"'),
    ],
    ids=json.dumps,
)
def test_what_is_wrong_is_refused_by_its_path(
    cluster: Cluster, namespaces: dict[str, str], spoil: Object, message: str
) -> None:
    wrong = copy.deepcopy(one(PLAIN, "DaemonSet", "producer"))
    wrong["spec"]["template"]["spec"].update(spoil)
    answer = cluster.apply(wrong)
    assert answer.status >= HTTPStatus.BAD_REQUEST
    assert message in answer.message


@pytest.mark.parametrize("part", ["producer", "streams", "console"])
def test_each_part_is_let_into_the_namespace_of_the_chart(
    cluster: Cluster, namespaces: dict[str, str], part: str
) -> None:
    answer = cluster.create(pod_of(part), namespaces["privileged"])
    assert (answer.status, answer.warnings) == (HTTPStatus.CREATED, []), answer.message


@pytest.mark.parametrize("part", ["streams", "console"])
def test_streams_and_the_console_are_let_in_where_restricted_is_enforced(
    cluster: Cluster, namespaces: dict[str, str], part: str
) -> None:
    pod = pod_of(part)
    del pod["metadata"]["labels"]  # no policy of ours is here
    answer = cluster.create(pod, namespaces["restricted"])
    assert (answer.status, answer.warnings) == (HTTPStatus.CREATED, []), answer.message


def test_the_producer_is_refused_there_for_what_the_page_says(cluster: Cluster, namespaces: dict[str, str]) -> None:
    answer = cluster.create(pod_of("producer"), namespaces["restricted"])
    assert answer.status == HTTPStatus.FORBIDDEN
    for word in ("hostNetwork=true", "hostPath", "BPF", "NET_ADMIN", "runAsUser=0"):
        assert word in answer.message, word
    for word in ("privileged (", "allowPrivilegeEscalation"):  # what is not asked for
        assert word not in answer.message, word
