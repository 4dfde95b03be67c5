"""What is wrong with the settings of names is said with what to do."""

from pathlib import Path

import pytest

from common.errors import SettingsError
from common.settings import NamesSettings
from producer.inspection.opening import OpenedNames


def test_a_hash_needs_a_key(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"needs a key: write 32 random octets"):
        OpenedNames(NamesSettings(redact="hash"))
    path = tmp_path / "key"
    with pytest.raises(SettingsError, match=rf"cannot read {path}: No such file"):
        OpenedNames(NamesSettings(redact="hash", redact_key_file=path))
    path.write_bytes(b"short")
    with pytest.raises(SettingsError, match=r"has 5 octets; a key has at least 16"):
        OpenedNames(NamesSettings(redact="hash", redact_key_file=path))
    path.write_bytes(bytes(32))
    assert OpenedNames(NamesSettings(redact="hash", redact_key_file=path)).reading(0)


def test_a_key_that_nobody_needs_is_not_read(tmp_path: Path) -> None:
    assert OpenedNames(NamesSettings(redact="drop", redact_key_file=tmp_path / "none")).reading(0)
