"""`/schema-registry/`: the read-only part of Confluent's Schema Registry API, and two routes of Apicurio's.

What serializers, deserializers and the user interfaces of others ask. The ids are the fixed ones of
`schemas.avro.registry`. Writes are refused as a read-only registry refuses them (42205).
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from fastavro.schema import SchemaParseException, to_parsing_canonical_form

from schemas.avro.registry import COMPATIBILITY, RegisteredSchema, shown

CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"
_SUBJECT_UNKNOWN, _VERSION_UNKNOWN, _SCHEMA_UNKNOWN, _NO_CONFIG, _NO_MODE = 40401, 40402, 40403, 40408, 40409
_SCHEMA_INVALID, _VERSION_INVALID, _READ_ONLY = 42201, 42202, 42205
_MODE = "READONLY"
_CONTEXT = ":.:"  # the default one, as clients may write it before a subject
_MOST_BYTES = 1 << 20  # of a question with a schema in it


BySubject = Mapping[str, Mapping[int, RegisteredSchema]]
"""Versions by their number, by subject."""


class RegistryResponse(JSONResponse):
    """JSON under the registry's own content type."""

    media_type = CONTENT_TYPE


_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {CONTENT_TYPE: {"example": {"error_code": code, "message": example}}}}
    for status, text, code, example in (
        (404, "It is not here.", _SCHEMA_UNKNOWN, "Schema 99 not found"),
        (422, "This is not a version.", _VERSION_INVALID, "The specified version '0' is not a valid version id."),
    )
}


_TOO_LARGE: dict[int | str, dict[str, Any]] = {
    413: {
        "description": "The question is too large.",
        "content": {CONTENT_TYPE: {"example": {"error_code": _SCHEMA_INVALID, "message": "…"}}},
    }
}


def _answer(value: Any, status: int = 200) -> Response:
    return RegistryResponse(value, status)


def _error(code: int, message: str, status: int = 404) -> Response:
    return _answer({"error_code": code, "message": message}, status)


def router(schemas: Sequence[RegisteredSchema], elsewhere: str | None) -> APIRouter:
    """The routes. With `elsewhere`, the URL of a real registry, nothing is served here but that hint."""
    routes = APIRouter(
        prefix="/schema-registry", tags=["schema registry"], default_response_class=RegistryResponse, responses=_ERRORS
    )
    if elsewhere is None:
        _about(routes)
        by_id = {schema.schema_id: schema for schema in schemas}
        _ids(routes, by_id)
        _apicurio(routes, by_id)
        _subjects(routes, _by_subject(schemas))
        _settings(routes)

    @routes.api_route("/{path:path}", methods=["POST", "PUT", "DELETE", "PATCH"], include_in_schema=False)
    def refuse(path: str) -> Response:
        return _error(_READ_ONLY, "this registry is read-only: its schemas come with ayaflow", 405)

    @routes.api_route("/{path:path}", methods=["GET", "HEAD"], include_in_schema=False)
    def unknown(path: str) -> Response:
        if elsewhere is not None:
            return _error(_SUBJECT_UNKNOWN, f"the schemas of this deployment are in the registry at {shown(elsewhere)}")
        return _error(_SUBJECT_UNKNOWN, f"{path!r} is not among what this read-only registry serves")

    return routes


def _about(routes: APIRouter) -> None:
    @routes.get("/")
    def root() -> Response:
        return _answer({})

    @routes.get("/schemas/types")
    def types() -> Response:
        return _answer(["AVRO"])

    @routes.get("/config")
    def config() -> Response:
        return _answer({"compatibilityLevel": COMPATIBILITY})

    @routes.get("/mode")
    def mode() -> Response:
        return _answer({"mode": _MODE})

    @routes.get("/contexts")
    def contexts() -> Response:
        return _answer(["."])

    @routes.get("/v1/metadata/id")
    def cluster() -> Response:
        return _answer({"scope": {"path": [], "clusters": {"schema-registry-cluster": "ayaflow"}}, "id": ""})


def _ids(routes: APIRouter, by_id: dict[int, RegisteredSchema]) -> None:
    @routes.get("/schemas/ids/{schema_id}")
    def by_identity(schema_id: str) -> Response:
        schema = _by_id(by_id, schema_id)
        if schema is None:
            return _error(_SCHEMA_UNKNOWN, f"Schema {schema_id} not found")
        return _answer({"schema": schema.schema, "subject": schema.subject, "version": schema.version})

    @routes.get("/schemas/ids/{schema_id}/schema")
    def text_of(schema_id: str) -> Response:
        schema = _by_id(by_id, schema_id)
        if schema is None:
            return _error(_SCHEMA_UNKNOWN, f"Schema {schema_id} not found")
        return Response(schema.schema, media_type=CONTENT_TYPE)

    @routes.get("/schemas/ids/{schema_id}/versions")
    def versions_of(schema_id: str) -> Response:
        schema = _by_id(by_id, schema_id)
        if schema is None:
            return _error(_SCHEMA_UNKNOWN, f"Schema {schema_id} not found")
        return _answer([{"subject": schema.subject, "version": schema.version}])

    @routes.get("/schemas/ids/{schema_id}/subjects")
    def subjects_of(schema_id: str) -> Response:
        schema = _by_id(by_id, schema_id)
        if schema is None:
            return _error(_SCHEMA_UNKNOWN, f"Schema {schema_id} not found")
        return _answer([schema.subject])


def _apicurio(routes: APIRouter, by_id: dict[int, RegisteredSchema]) -> None:
    """What Apicurio's deserializers and its converter for Kafka Connect ask for the schema of a message."""

    @routes.get("/apis/registry/v2/ids/{kind}/{schema_id}")
    def schema_of(kind: str, schema_id: str) -> Response:
        schema = _by_id(by_id, schema_id) if kind in {"contentIds", "globalIds"} else None
        if schema is None:
            return _error(_SCHEMA_UNKNOWN, f"No schema {schema_id} by {kind}")
        return Response(schema.schema, media_type="application/json")

    @routes.get("/apis/registry/v2/ids/{kind}/{schema_id}/references")
    def references_of(kind: str, schema_id: str) -> Response:
        found = schema_of(kind, schema_id)
        return JSONResponse([]) if found.status_code == 200 else found


def _subjects(routes: APIRouter, by_subject: BySubject) -> None:
    @routes.get("/schemas")
    def all_schemas(
        subjectPrefix: str = "",  # noqa: N803  names of the API
        latestOnly: str = "",  # noqa: N803
        offset: str = "",
        limit: str = "",
    ) -> Response:
        found = [
            _record(schema)
            for subject in _with_prefix(by_subject, subjectPrefix)
            for number, schema in sorted(by_subject[subject].items())
            if not _is_true(latestOnly) or number == max(by_subject[subject])
        ]
        return _answer(_part(found, offset, limit))

    @routes.get("/subjects")
    def subjects(subjectPrefix: str = "", offset: str = "", limit: str = "") -> Response:  # noqa: N803
        return _answer(_part(_with_prefix(by_subject, subjectPrefix), offset, limit))

    @routes.post("/subjects/{subject}", responses=_TOO_LARGE)
    async def look_up(subject: str, request: Request) -> Response:
        """The version of a schema that somebody has: nothing is written."""
        versions = by_subject.get(subject.removeprefix(_CONTEXT))
        if versions is None:
            return _unknown(subject)
        octets = bytearray()
        async for piece in request.stream():
            octets += piece
            if len(octets) > _MOST_BYTES:
                return _error(_SCHEMA_INVALID, "the schema is larger than 1 MB", 413)
        return await run_in_threadpool(_look_up, versions, bytes(octets))

    @routes.get("/subjects/{subject}/versions")
    def versions(subject: str) -> Response:
        versions = by_subject.get(subject.removeprefix(_CONTEXT))
        return _unknown(subject) if versions is None else _answer(sorted(versions))

    @routes.get("/subjects/{subject}/versions/{version}")
    def one(subject: str, version: str) -> Response:
        return _one(by_subject, subject, version, text_only=False)

    @routes.get("/subjects/{subject}/versions/{version}/schema")
    def one_text(subject: str, version: str) -> Response:
        return _one(by_subject, subject, version, text_only=True)

    @routes.get("/subjects/{subject}/versions/{version}/referencedby")
    def referenced(subject: str, version: str) -> Response:
        found = _one(by_subject, subject, version, text_only=False)
        return _answer([]) if found.status_code == 200 else found


def _settings(routes: APIRouter) -> None:
    """No subject has a compatibility or mode of its own; clients may ask for the global one in its place."""

    @routes.get("/config/{subject}")
    def config_of(subject: str, defaultToGlobal: str = "") -> Response:  # noqa: N803
        if not _is_true(defaultToGlobal):
            return _error(_NO_CONFIG, f"Subject '{subject}' does not have subject-level compatibility configured")
        return _answer({"compatibilityLevel": COMPATIBILITY})

    @routes.get("/mode/{subject}")
    def mode_of(subject: str, defaultToGlobal: str = "") -> Response:  # noqa: N803
        if not _is_true(defaultToGlobal):
            return _error(_NO_MODE, f"Subject '{subject}' does not have subject-level mode configured")
        return _answer({"mode": _MODE})


def _with_prefix(by_subject: BySubject, prefix: str) -> list[str]:
    return [subject for subject in sorted(by_subject) if subject.startswith(prefix.removeprefix(_CONTEXT))]


def _part(found: list[Any], offset: str, limit: str) -> list[Any]:
    """A page of a list; what is no number is as if it were not there."""
    begin, most = (int(text) if text.isascii() and text.isdigit() else None for text in (offset[:9], limit[:9]))
    return found[begin or 0 :][:most]


def _is_true(text: str) -> bool:
    return text.lower() == "true"


def _by_subject(schemas: Sequence[RegisteredSchema]) -> BySubject:
    found: dict[str, dict[int, RegisteredSchema]] = {}
    for schema in schemas:
        found.setdefault(schema.subject, {})[schema.version] = schema
    return found


def _by_id(by_id: dict[int, RegisteredSchema], text: str) -> RegisteredSchema | None:
    return by_id.get(int(text)) if text.isascii() and text.isdigit() and len(text) < 11 else None


def _one(by_subject: BySubject, subject: str, version: str, *, text_only: bool) -> Response:
    versions = by_subject.get(subject.removeprefix(_CONTEXT))
    if versions is None:
        return _unknown(subject)
    if version in {"latest", "-1"}:
        number = max(versions)
    elif version.isascii() and version.isdigit() and 0 < len(version) < 11 and int(version) > 0:
        number = int(version)
    else:
        return _error(
            _VERSION_INVALID,
            f"The specified version '{version}' is not a valid version id. Allowed values are"
            ' between [1, 2^31-1] and the string "latest"',
            422,
        )
    schema = versions.get(number)
    if schema is None:
        return _error(_VERSION_UNKNOWN, f"Version {number} not found.")
    if text_only:
        return Response(schema.schema, media_type=CONTENT_TYPE)
    return _answer(_record(schema))


def _look_up(versions: Mapping[int, RegisteredSchema], question: bytes) -> Response:
    """Which of a subject's versions a schema is: the same text, else the newest that reads and writes as it does."""
    try:
        asked = json.loads(json.loads(question)["schema"])
        form = to_parsing_canonical_form(asked)
    except (ValueError, TypeError, KeyError, RecursionError, SchemaParseException) as error:
        return _error(_SCHEMA_INVALID, f"Invalid schema: {error}"[:500], 422)
    newest_first = sorted(versions.values(), key=lambda schema: -schema.version)
    same = [schema for schema in newest_first if json.loads(schema.schema) == asked]
    alike = [schema for schema in newest_first if to_parsing_canonical_form(json.loads(schema.schema)) == form]
    return _answer(_record((same + alike)[0])) if same or alike else _error(_SCHEMA_UNKNOWN, "Schema not found")


def _unknown(subject: str) -> Response:
    return _error(_SUBJECT_UNKNOWN, f"Subject '{subject}' not found.")


def _record(schema: RegisteredSchema) -> dict[str, Any]:
    return {
        "subject": schema.subject,
        "version": schema.version,
        "id": schema.schema_id,
        "schemaType": "AVRO",
        "schema": schema.schema,
    }
