"""Our schemas put into somebody else's registry before the first message is. What is there already stays as it is."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from common.errors import AyaflowError
from schemas.avro.registry import COMPATIBILITY, ask, connect, fixed_schemas, put, shown
from schemas.topics import TopicNames

PATIENCE_SECONDS = 30.0  # for each piece of an answer: nobody's packets wait for it
_ADVICE = {  # HTTP status -> what to do
    401: "Write the user and password into its URL: https://USER:PASSWORD@HOST",
    403: "Its user needs the right to write schemas",
    404: "Is its URL whole? Confluent's has no path, Apicurio's ends in /apis/ccompat/v7",
    405: "Name one that takes schemas with --url, or in schema_registry.url",
    409: "Something else is registered under this name: set another kafka.topic_prefix, or delete the subject there",
}


class RegistryRefusal(AyaflowError):
    """A registry answered that it does not do what it was asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A schema of ours as a registry has it."""

    subject: str
    version: int  # the registry's, of the subject
    schema_id: int  # the registry's
    name: str  # PacketBatch, …
    compatibility: str | None  # that the subject was given; None: the registry did not let us


def register(url: str, topics: TopicNames) -> Iterator[Registered]:
    """Each version of each schema, in order, as it was registered; what is there already keeps its version and id.

    Raises ServiceUnavailable when the registry is silent, RegistryRefusal, SettingsError.
    """
    from confluent_kafka.schema_registry import Schema

    compatible: dict[str, str | None] = {}
    with contextlib.closing(connect(url, timeout_seconds=PATIENCE_SECONDS)) as client:
        for ours in sorted(fixed_schemas(topics), key=lambda each: (each.subject, each.version)):
            subject, schema, what = ours.subject, Schema(ours.schema, "AVRO"), f"{ours.name} under {ours.subject}"
            _answer(url, client, what, partial(put, client, subject, schema))
            if subject not in compatible:  # by now it exists: not all registries configure what does not
                compatible[subject] = _make_compatible(url, client, subject)
            found = _answer(url, client, what, partial(client.lookup_schema, subject, schema))
            yield Registered(
                subject=subject,
                version=int(found.version),
                schema_id=int(found.schema_id),
                name=ours.name,
                compatibility=compatible[subject],
            )


def check(url: str) -> None:
    """That a registry answers as one. Raises ServiceUnavailable, RegistryRefusal, SettingsError."""
    with contextlib.closing(connect(url)) as client:
        _answer(url, client, "to list its subjects", client.get_subjects)


def _make_compatible(url: str, client: Any, subject: str) -> str | None:
    try:
        _answer(url, client, f"a compatibility of {subject}", partial(client.set_compatibility, subject, COMPATIBILITY))
    except RegistryRefusal:
        return None
    return COMPATIBILITY


def _answer(url: str, client: Any, what: str, call: Callable[[], Any]) -> Any:
    from confluent_kafka.schema_registry.error import SchemaRegistryError

    try:
        return ask(url, client, call, seconds=2 * PATIENCE_SECONDS)
    except SchemaRegistryError as error:
        status = error.http_status_code
        said = f"the schema registry at {shown(url)} refused {what} (HTTP {status}): {error.error_message}".rstrip(".")
        raise RegistryRefusal(". ".join(filter(None, (said, _ADVICE.get(status))))) from error
