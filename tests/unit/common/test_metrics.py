import json
import socket
import threading
import urllib.error
import urllib.request

import pytest
from prometheus_client import CollectorRegistry, Counter

from common.errors import EnvironmentProblem
from common.metrics import MetricsServer
from tests.fix_local import free_port


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_metrics_and_health_are_served_until_the_server_is_closed() -> None:
    registry, state, port = CollectorRegistry(), {"ok": True, "stage": "test"}, free_port()
    Counter("ayaflow_things", "Things.", registry=registry).inc(3)
    with MetricsServer(f"127.0.0.1:{port}", "x.listen", lambda: state, registry):
        assert "ayaflow_things_total 3.0" in get(f"http://127.0.0.1:{port}/metrics")[1]
        assert get(f"http://127.0.0.1:{port}/health") == (200, json.dumps(state))
        state["ok"] = False
        assert get(f"http://127.0.0.1:{port}/health")[0] == 503
        assert get(f"http://127.0.0.1:{port}/")[0] == 404
    with pytest.raises(urllib.error.URLError):
        get(f"http://127.0.0.1:{port}/health")


def test_they_are_served_on_an_ipv6_address() -> None:
    with MetricsServer(f"[::1]:{(port := free_port())}", "x.listen", lambda: {"ok": True}, CollectorRegistry()):
        assert get(f"http://[::1]:{port}/health") == (200, '{"ok": true}')


def test_it_can_be_closed_while_nobody_gets_through_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a host whose queues are full of packets, where the loopback's are dropped, too."""
    server = MetricsServer("127.0.0.1:0", "x.listen", dict)
    server.__enter__()

    def no_way(*_: object, **__: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", no_way)
    closing = threading.Thread(target=server.__exit__, args=(None, None, None), daemon=True)
    closing.start()
    closing.join(5)
    assert not closing.is_alive()


def test_a_port_in_use_is_a_sentence_that_names_the_setting() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(EnvironmentProblem, match=r"cannot listen on 127.* or set producer\.metrics_listen"):
            MetricsServer(listen, "producer.metrics_listen", dict)
