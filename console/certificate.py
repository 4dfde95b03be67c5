"""The console's certificate: that it can be used, and taking a new one without a restart."""

import ssl
import time
from collections.abc import Callable
from pathlib import Path

from common import logs
from common.errors import SettingsError
from common.settings import ConsoleSettings

LOOK_SECONDS = 5.0

log = logs.get("console")


def check(settings: ConsoleSettings) -> None:
    """That uvicorn will be able to load it. Raises SettingsError."""
    if settings.tls_certificate is None:
        return
    for path, name in ((settings.tls_certificate, "console.tls_certificate"), (settings.tls_key, "console.tls_key")):
        try:
            assert path is not None
            path.read_bytes()
        except OSError as error:
            raise SettingsError(f"{name}: cannot read {path}: {error.strerror}") from error
    try:
        _load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), settings)
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"console.tls_certificate {settings.tls_certificate} and console.tls_key {settings.tls_key} cannot be used:"
            " they must be PEM files, the key without a password and that of the first certificate"
        ) from error


def _load(context: ssl.SSLContext, settings: ConsoleSettings) -> None:
    assert settings.tls_certificate is not None
    # an empty password: else OpenSSL asks the terminal for that of an encrypted key
    context.load_cert_chain(settings.tls_certificate, settings.tls_key, "")


class Reload:
    """Looks at the files now and then; connections that are made later get the new certificate."""

    def __init__(self, settings: ConsoleSettings, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._settings, self._monotonic = settings, monotonic
        self._paths = [path for path in (settings.tls_certificate, settings.tls_key) if path is not None]
        self._known, self._at = self._stamps(), monotonic()

    def step(self, context: ssl.SSLContext | None) -> None:
        """Into the context that the server listens with, if there is something new. What cannot be used is said."""
        now = self._monotonic()
        if context is None or now - self._at < LOOK_SECONDS:
            return
        self._at, found = now, self._stamps()
        if found == self._known:
            return
        self._known = found
        try:
            check(self._settings)  # first aside: the old one stays whole
            _load(context, self._settings)
        except (SettingsError, OSError, ValueError) as error:
            log.warning("the new certificate is not taken; the old one is still served", error=str(error))
        else:
            log.info("serving a new certificate", path=str(self._settings.tls_certificate))

    def _stamps(self) -> list[tuple[int, int] | None]:
        return [_stamp(path) for path in self._paths]


def _stamp(path: Path) -> tuple[int, int] | None:
    """What is another one when the file is another, or what a link leads to, as in Kubernetes."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns
