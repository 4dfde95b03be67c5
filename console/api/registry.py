"""`/schema-registry/`: the read-only part of Confluent's Schema Registry API that deserializers use.

Enough for confluent-kafka's and Java's deserializers and for ClickHouse's `format_avro_schema_registry_url`. The ids
are the fixed ones of `schemas.avro.registry`. Writes are refused as a read-only registry refuses them (42205).
"""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from schemas.avro.registry import RegisteredSchema

CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"
_SUBJECT_UNKNOWN, _VERSION_UNKNOWN, _SCHEMA_UNKNOWN = 40401, 40402, 40403
_VERSION_INVALID, _READ_ONLY = 42202, 42205


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
        _ids(routes, {schema.schema_id: schema for schema in schemas})
        _subjects(routes, schemas)

    @routes.api_route("/{path:path}", methods=["POST", "PUT", "DELETE", "PATCH"], include_in_schema=False)
    def refuse(path: str) -> Response:
        return _error(_READ_ONLY, "this registry is read-only: its schemas come with ayaflow", 405)

    @routes.api_route("/{path:path}", methods=["GET", "HEAD"], include_in_schema=False)
    def unknown(path: str) -> Response:
        if elsewhere is not None:
            return _error(_SUBJECT_UNKNOWN, f"the schemas of this deployment are in the registry at {elsewhere}")
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
        return _answer({"compatibilityLevel": "BACKWARD_TRANSITIVE"})

    @routes.get("/mode")
    def mode() -> Response:
        return _answer({"mode": "READONLY"})


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


def _subjects(routes: APIRouter, schemas: Sequence[RegisteredSchema]) -> None:
    by_subject: dict[str, dict[int, RegisteredSchema]] = {}
    for schema in schemas:
        by_subject.setdefault(schema.subject, {})[schema.version] = schema

    @routes.get("/subjects")
    def subjects() -> Response:
        return _answer(sorted(by_subject))

    @routes.get("/subjects/{subject}/versions")
    def versions(subject: str) -> Response:
        if subject not in by_subject:
            return _error(_SUBJECT_UNKNOWN, f"Subject '{subject}' not found.")
        return _answer(sorted(by_subject[subject]))

    @routes.get("/subjects/{subject}/versions/{version}")
    def one(subject: str, version: str) -> Response:
        return _one(by_subject, subject, version, text_only=False)

    @routes.get("/subjects/{subject}/versions/{version}/schema")
    def one_text(subject: str, version: str) -> Response:
        return _one(by_subject, subject, version, text_only=True)


def _by_id(by_id: dict[int, RegisteredSchema], text: str) -> RegisteredSchema | None:
    return by_id.get(int(text)) if text.isascii() and text.isdigit() and len(text) < 11 else None


def _one(
    by_subject: dict[str, dict[int, RegisteredSchema]], subject: str, version: str, *, text_only: bool
) -> Response:
    if subject not in by_subject:
        return _error(_SUBJECT_UNKNOWN, f"Subject '{subject}' not found.")
    versions = by_subject[subject]
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
    return _answer(
        {"subject": subject, "version": number, "id": schema.schema_id, "schemaType": "AVRO", "schema": schema.schema}
    )
