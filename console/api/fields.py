"""`/api/fields`: the words of the filter language."""

from typing import Any

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse

from console.api.parameters import example, only_known
from console.query.vocabulary import ALIASES, FIELDS, Field, protocol_names, service_names
from schemas.fields import Kind


def router() -> APIRouter:
    """The route."""
    routes = APIRouter(prefix="/api", tags=["catalog"], dependencies=[Depends(only_known)])

    @routes.get(
        "/fields",
        responses=example(
            {
                "fields": [
                    {
                        "name": "dst_port",
                        "type": "port",
                        "doc": "Port of the responder, or 0",
                        "operators": ["=", "!=", "in"],
                        "values": ["https", "ssh"],
                    }
                ]
            }
        ),
    )
    async def fields() -> JSONResponse:
        """The words of the filter language, for completion."""
        return JSONResponse(
            {
                "fields": [_described(name, field) for name, field in FIELDS.items()]
                + [_described(alias, FIELDS[name]) for alias, name in ALIASES.items()]
            }
        )

    return routes


def _described(name: str, field: Field) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": name,
        "type": field.kind.name.lower(),
        "doc": field.doc,
        "operators": list(field.operators),
    }
    values = {Kind.PROTOCOL: protocol_names(), Kind.PORT: list(service_names()), Kind.CHOICE: list(field.choices)}.get(
        field.kind
    )
    return described | {"values": values} if values else described
