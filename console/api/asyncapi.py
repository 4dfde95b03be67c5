"""`/asyncapi.json`: what our topics and messages are, for programs that read them or make pages and code of them."""

from importlib import metadata
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from common.settings import KafkaSettings
from schemas import asyncapi


def router(kafka: KafkaSettings, *, group: str, registry_url: str | None) -> APIRouter:
    """The route. `group`: the consumer group of streams. `registry_url`: of a schema registry that is not ours."""
    routes = APIRouter(tags=["schema registry"])

    @routes.get("/asyncapi.json")
    async def messages(request: Request) -> JSONResponse:
        """Topics and messages as an AsyncAPI document (3.0), with the Avro schemas."""
        here = str(request.base_url)
        return JSONResponse(document(kafka, group=group, registry_url=registry_url, console_url=here))

    return routes


def document(kafka: KafkaSettings, *, group: str, registry_url: str | None, console_url: str) -> dict[str, Any]:
    """The document. Without a registry of one's own the console's is named."""
    url = registry_url or f"{console_url.rstrip('/')}/schema-registry"
    return asyncapi.document(kafka, group=group, registry_url=url, version=metadata.version("ayaflow"))
