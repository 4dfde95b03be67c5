"""The Avro schemas, their fixed ids, and a real registry where one is set.

Released versions are never edited: a change is a new file `NAME.N.avsc` with an id of its own (`schema_id`). A test
holds each one to BACKWARD_TRANSITIVE compatibility with all before it.
"""

import json
import re
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from http import HTTPStatus
from importlib import resources
from typing import Any, Protocol
from urllib.parse import quote

from common.deadline import closing_after
from common.errors import DecodeError, ServiceUnavailable, SettingsError
from common.security.secrets import reveal
from schemas.topics import TopicNames

HEADER = struct.Struct(">bI")
"""Confluent framing: magic byte 0 and the schema id."""

UNFRAMED = "no Confluent framing: the message does not begin with 0 and a schema id"

COMPATIBILITY = "BACKWARD_TRANSITIVE"
"""What each version is to all before it."""

_FILE = re.compile(r"(\w+)\.(\d+)\.avsc")


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredSchema:
    """One version of one schema."""

    schema_id: int
    subject: str  # TopicNameStrategy: topic name + "-value"
    version: int  # from 1
    name: str  # PacketBatch, …
    schema: str  # JSON


class Registry(Protocol):
    """Where ids come from."""

    def schema_id(self, name: str) -> int:
        """The id to write for the newest version of a schema."""

    def schema(self, schema_id: int) -> str:
        """The JSON of a schema that somebody wrote. Raises DecodeError when nobody knows the id."""

    def at_hand(self, schema_id: int) -> bool:
        """Whether `schema` knows the answer, whatever it is, without asking anybody."""

    def close(self) -> None:
        """Give connections back."""


@cache
def _fixed() -> tuple[tuple[int, str, int, str], ...]:
    """(id, name, version, JSON) of all schemas of ours, by id. The id stands in the file, and nowhere else."""
    found = []
    for file in resources.files("schemas.avro").iterdir():
        if match := _FILE.fullmatch(file.name):
            schema = json.loads(file.read_text("utf-8"))
            found.append((int(schema.pop("schema_id")), match[1], int(match[2]), json.dumps(schema)))
    return tuple(sorted(found))


def schema_text(name: str, version: int) -> str:
    """The JSON of a schema of ours."""
    return next(text for _, other, number, text in _fixed() if (other, number) == (name, version))


@cache
def newest(name: str) -> str:
    """The JSON of the newest version of a schema of ours."""
    return schema_text(name, max(version for _, other, version, _ in _fixed() if other == name))


NAMES = tuple(TopicNames.of("").by_schema())
"""Our schemas, each the value of one topic."""


def schema_of(registry: Registry, schema_id: int, name: str) -> str:
    """The JSON of an id that must be one of a schema of ours. Raises DecodeError, and what the registry raises."""
    schema = registry.schema(schema_id)
    if (other := _record_name(schema)) != name:
        raise DecodeError(f"a {other} where a {name} is expected")
    return schema


@cache
def _record_name(schema: str) -> str:
    try:
        return str(json.loads(schema).get("name", "?")).rpartition(".")[2]  # a full name is right, too
    except (ValueError, AttributeError):
        return "?"


def _subjects(topics: TopicNames) -> dict[str, str]:
    return {name: f"{topic}-value" for name, topic in topics.by_schema().items()}


def fixed_schemas(topics: TopicNames) -> list[RegisteredSchema]:
    """Every version of every schema with its fixed id, in the order of the ids."""
    subjects = _subjects(topics)
    return [
        RegisteredSchema(
            schema_id=schema_id,
            subject=subjects[name],
            version=version,
            name=name,
            schema=json.dumps(json.loads(text), separators=(",", ":")),
        )
        for schema_id, name, version, text in _fixed()
    ]


class FixedRegistry:
    """Ids as in this file; the console serves them under /schema-registry/."""

    def schema_id(self, name: str) -> int:
        """The id of the newest version."""
        return max(schema_id for schema_id, other, _, _ in _fixed() if other == name)

    def schema(self, schema_id: int) -> str:
        """The JSON of an id; DecodeError when it is not one of ours."""
        for known, _, _, text in _fixed():
            if known == schema_id:
                return text
        raise DecodeError(f"schema id {schema_id} is not one of ayaflow's; is schema_registry.url missing?")

    def at_hand(self, schema_id: int) -> bool:
        """All answers are."""
        return True

    def close(self) -> None:
        """There is nothing to close."""


TIMEOUT_SECONDS = 3.0  # for each piece of an answer
ASK_SECONDS = 10.0  # for what is asked at once, however slowly the pieces come
UNKNOWN_SECONDS, MOST_UNKNOWN = 30.0, 1024  # ids that are not asked for again, for so long


def connect(url: str, *, timeout_seconds: float | None = None) -> Any:
    """Confluent's client; it connects when it is asked something. Raises SettingsError for what is no URL.

    `timeout_seconds`: for each piece of an answer, TIMEOUT_SECONDS by default.
    """
    # imported here: 15 MB that a process without a registry does not pay for
    from confluent_kafka.schema_registry import SchemaRegistryClient

    whole = reveal(url, "schema_registry.url", made=partial(quote, safe=""))
    try:
        # one that accepts and is silent would be waited for without end; whoever asks tries again
        return SchemaRegistryClient({"url": whole, "timeout": timeout_seconds or TIMEOUT_SECONDS, "max.retries": 0})
    except ValueError as error:
        raise SettingsError(f"schema_registry.url: write it as http://HOST:PORT (it is {shown(url)!r})") from error


def shown(url: str) -> str:
    """The URL as others may see it: without the user and password that it may carry."""
    return re.sub(r"(?<=//)(?:\$\{[^}]*\}|[^/@])*@", "", url)


def ask(url: str, client: Any, call: Callable[[], Any], *, seconds: float) -> Any:
    """What a registry answers its client. Raises Confluent's SchemaRegistryError, ServiceUnavailable when it is silent.

    `seconds`: for all of it; then the client is closed, and is of no more use.
    """
    from confluent_kafka.schema_registry.error import SchemaRegistryError

    try:
        with closing_after(seconds, client.close):
            return call()
    except SchemaRegistryError:
        raise
    except Exception as error:
        raise ServiceUnavailable(
            f"the schema registry at {shown(url)} does not answer ({error}); start it or correct schema_registry.url"
        ) from error


def put(client: Any, subject: str, schema: Any) -> int:
    """Register a schema, or find that it is there -> its id. Raises Confluent's errors."""
    from confluent_kafka.schema_registry.error import SchemaRegistryError

    try:
        return int(client.register_schema(subject, schema))
    except SchemaRegistryError as error:
        if error.http_status_code != HTTPStatus.CONFLICT:
            raise
    return int(client.register_schema(subject, schema))  # another put the same there meanwhile; else it says so again


class ConfluentRegistry:
    """Ids from a Confluent-compatible registry; registers our schemas there when they are first used."""

    def __init__(
        self,
        url: str,
        topics: TopicNames,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        ask_seconds: float = ASK_SECONDS,
    ) -> None:
        """`ask_seconds`: for all of an answer. Raises SettingsError."""
        self._url, self._monotonic, self._seconds = url, monotonic, ask_seconds
        self._client = connect(url)
        self._subjects = _subjects(topics)
        self._ids: dict[str, int] = {}
        self._schemas: dict[int, str] = {}
        self._unknown: dict[int, float] = {}  # id -> when it is asked for again

    def schema_id(self, name: str) -> int:
        """Register the newest version of a schema, and say its id. Raises ServiceUnavailable."""
        if name not in self._ids:
            from confluent_kafka.schema_registry import Schema

            self._ids[name] = self._ask(lambda: put(self._client, self._subjects[name], Schema(newest(name), "AVRO")))
        return self._ids[name]

    def schema(self, schema_id: int) -> str:
        """Look an id up. Raises ServiceUnavailable, or DecodeError when the registry does not know it."""
        if schema_id not in self._schemas:
            now = self._monotonic()
            if self._unknown.get(schema_id, now) > now:  # anybody can send many of them
                raise DecodeError(f"the schema registry at {shown(self._url)} does not know the id {schema_id}")
            try:
                self._schemas[schema_id] = self._ask(lambda: self._client.get_schema(schema_id).schema_str)
            except DecodeError:
                self._unknown = {known: at for known, at in self._unknown.items() if at > now}
                if len(self._unknown) < MOST_UNKNOWN:
                    self._unknown[schema_id] = now + UNKNOWN_SECONDS
                raise
        return self._schemas[schema_id]

    def at_hand(self, schema_id: int) -> bool:
        """Whether it was asked for before."""
        return schema_id in self._schemas or self._unknown.get(schema_id, 0.0) > self._monotonic()

    def close(self) -> None:
        """Close the connections to the registry."""
        self._client.close()

    def _ask(self, call: Callable[[], Any]) -> Any:
        from confluent_kafka.schema_registry.error import SchemaRegistryError

        try:
            return ask(self._url, self._client, call, seconds=self._seconds)
        except ServiceUnavailable:
            self._client.close()
            self._client = connect(self._url)  # the old one may be closed, by the deadline
            raise
        except SchemaRegistryError as error:
            place = f"the schema registry at {shown(self._url)}"
            if error.http_status_code == 404:
                raise DecodeError(f"{place} says: {error.error_message}") from error
            raise ServiceUnavailable(f"{place} refused: {error.error_message}") from error


def open_registry(url: str | None, topics: TopicNames) -> Registry:
    """The registry that the settings name."""
    return ConfluentRegistry(url, topics) if url else FixedRegistry()
