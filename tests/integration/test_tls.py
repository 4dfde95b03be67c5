"""The console over TLS. Needs openssl, which comes with every Debian; no root, no broker."""

import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from common import settings as settings_module
from console import health
from tests.fix_local import REPOSITORY, free_port, stop
from tests.waiting import HANG_SECONDS, until


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return issue(tmp_path_factory.mktemp("tls"))


def issue(directory: Path) -> Path:
    """A certificate for console.example; its key lies beside it as key.pem."""
    directory.mkdir(exist_ok=True)
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "1",
            "-subj",
            "/CN=console.example",
            "-keyout",
            "key.pem",
            "-out",
            "certificate.pem",
        ],
        cwd=directory,
        check=True,
        capture_output=True,
    )
    return directory / "certificate.pem"


def test_a_console_with_a_certificate_speaks_https_and_is_probed_there(certificate: Path) -> None:
    flags = {
        "console.listen": f"127.0.0.1:{free_port()}",
        "console.tls_certificate": str(certificate),
        "console.tls_key": str(certificate.with_name("key.pem")),
        "clickhouse.url": "http://127.0.0.1:1",
        "kafka.bootstrap_servers": "127.0.0.1:1",
        "producer.metrics_listen": "127.0.0.1:1",
        "streams.metrics_listen": "127.0.0.1:1",
    }
    loaded = settings_module.load(flags=flags)
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "cli.main",
            "console",
            *(word for name, value in flags.items() for word in ("--set", f"{name}={value}")),
        ],
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stderr is not None
    try:
        assert json.loads(process.stderr.readline())["url"] == health.console_url(loaded.console)
        # the other stages are away, and the probe says what the console said
        verdict = next(one for one in health.questions(loaded) if one.stage == "console").ask()
        assert not verdict.ok
        assert verdict.message.startswith("kafka: Kafka at 127.0.0.1:1 does not answer")
        trusting = ssl.create_default_context(cafile=str(certificate))
        trusting.check_hostname = False
        with urllib.request.urlopen(f"{health.console_url(loaded.console)}/", context=trusting) as page:
            assert page.headers["strict-transport-security"]
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            urllib.request.urlopen(health.console_url(loaded.console))
    finally:
        stop(process)
        process.stderr.close()


def served(port: int, authority: Path) -> bytes:
    """The certificate that a new connection gets."""
    context = ssl.create_default_context(cafile=str(authority))
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), timeout=HANG_SECONDS) as raw, context.wrap_socket(raw) as line:
        found = line.getpeercert(binary_form=True)
    assert found is not None
    return found


def test_a_new_certificate_is_taken_without_a_restart_and_a_wrong_one_is_not(certificate: Path, tmp_path: Path) -> None:
    first, second = (ssl.PEM_cert_to_DER_cert(path.read_text()) for path in (certificate, issue(tmp_path / "next")))
    own = tmp_path / "own"
    own.mkdir()
    for name in ("certificate.pem", "key.pem"):
        shutil.copy(certificate.with_name(name), own)
    port, output = free_port(), tmp_path / "console.out"
    words = [f"console.listen=127.0.0.1:{port}", f"console.tls_certificate={own}/certificate.pem"]
    words += [
        f"console.tls_key={own}/key.pem",
        "clickhouse.url=http://127.0.0.1:1",
        "kafka.bootstrap_servers=127.0.0.1:1",
    ]
    with output.open("w") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "console", *(word for each in words for word in ("--set", each))],
            cwd=REPOSITORY,
            stderr=sink,
        )
    try:
        until(lambda: '"serving"' in output.read_text(), output.read_text)
        until(lambda: reachable(port), output.read_text)
        assert served(port, certificate) == first
        shutil.copy(tmp_path / "next/certificate.pem", own)  # without its key: not yet whole
        until(lambda: "the new certificate is not taken" in output.read_text(), output.read_text)
        assert served(port, certificate) == first
        shutil.copy(tmp_path / "next/key.pem", own)
        until(lambda: served(port, certificate) == second, output.read_text)
        assert "serving a new certificate" in output.read_text()
    finally:
        stop(process)


def reachable(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda certificate, key: (certificate.with_name("none.pem"), key), "cannot read .*none.pem: No such file"),
        (lambda certificate, key: (key, key), "cannot be used"),
        (lambda certificate, key: (certificate, certificate), "cannot be used"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_a_sentence(
    certificate: Path, spoil: Callable[[Path, Path], tuple[Path, Path]], message: str
) -> None:
    chain, key = spoil(certificate, certificate.with_name("key.pem"))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "cli.main",
            "console",
            "--set",
            f"console.listen=127.0.0.1:{free_port()}",
            "--set",
            f"console.tls_certificate={chain}",
            "--set",
            f"console.tls_key={key}",
        ],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert re.search(message, line)
