"""What reads names, made from the settings. Imported only where payload is inspected: it brings cryptography."""

from common.errors import SettingsError
from common.settings import NamesSettings
from producer.inspection.reading import NameReading, OnRead, tell_nobody
from producer.names.join import DomainTable
from producer.names.reader import NameReader, ready
from producer.names.redact import Redaction

SHORTEST_KEY = 16


class OpenedNames:
    """What all rings of a process share: which names flows have does not end with a ring."""

    def __init__(self, settings: NamesSettings) -> None:
        """Raises EnvironmentProblem when a part of ours was not compiled, SettingsError."""
        ready()
        key = _key(settings) if settings.redact == "hash" else b""
        self._table = DomainTable()
        self._redaction = Redaction(
            mode=settings.redact, key=key, prefix4=settings.prefix_v4, prefix6=settings.prefix_v6
        )

    def reading(self, position: int, on_read: OnRead = tell_nobody) -> NameReading:
        """Of a ring of copies, from this position on. `on_read`: see NameReading."""
        return NameReading(NameReader(), self._table, self._redaction, on_read=on_read, position=position)


def _key(settings: NamesSettings) -> bytes:
    path = settings.redact_key_file
    if path is None:
        raise SettingsError(
            "names.redact: hash needs a key: write 32 random octets into a file, and set names.redact_key_file to it"
        )
    try:
        key = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"names.redact_key_file: cannot read {path}: {error.strerror}") from error
    if len(key) < SHORTEST_KEY:
        raise SettingsError(f"names.redact_key_file: {path} has {len(key)} octets; a key has at least {SHORTEST_KEY}")
    return key
