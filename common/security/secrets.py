"""Secrets that a setting names and does not hold: `${file:/run/secrets/kafka}`, `${env:KAFKA_PASSWORD}`.

As Kafka's own clients write it (KIP-297, KIP-421); of a file all is taken, without the line's end. What is named is
read when a client is made: settings that are shown, written or handed on have the name and never the secret, and a
client that is made anew has the secret of that moment.
"""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from common.errors import SettingsError

_REFERENCE = re.compile(r"\$\{(file|env):([^}]*)\}")
_MOST_BYTES = 1 << 16


def reveal(text: str, setting: str, made: Callable[[str], str] = str) -> str:
    """The text with what it names. Raises SettingsError, which says the setting and not the secret.

    `made`: what is put into the text for a secret.
    """
    return _REFERENCE.sub(lambda found: made(_read(found[1], found[2], setting)), text)


def reveal_all(texts: Mapping[str, str], setting: str) -> dict[str, str]:
    """`reveal` of each value."""
    return {name: reveal(text, f"{setting}: {name}") for name, text in texts.items()}


def _read(kind: str, place: str, setting: str) -> str:
    if kind == "env":
        found = os.environ.get(place)
        if found is None:
            raise SettingsError(f"{setting}: there is no environment variable {place}. Set it, or name a file")
        return found
    try:
        with Path(place).open("rb") as file:
            octets = file.read(_MOST_BYTES + 1)
        found = octets.decode().removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise SettingsError(f"{setting}: cannot read {place}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{setting}: {place} is not text in UTF-8") from error
    if not found or len(octets) > _MOST_BYTES:
        raise SettingsError(f"{setting}: {place} is {'too large for a secret' if found else 'empty'}")
    return found
