"""The console's settings."""

import ipaddress
from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from common.settings.base import Section


class ConsoleSettings(Section):
    """The HTTP service."""

    listen: str = Field("127.0.0.1:8080", description="Address of the dashboard, the API and the schema registry.")
    allowed_ips: list[str] = Field(
        [], description="Networks that may ask, others get 403; empty: all that can reach console.listen."
    )
    trusted_proxies: list[str] = Field(
        [], description="Networks of proxies whose X-Forwarded-For names the client; others' is ignored."
    )
    user_header: str | None = Field(
        None,
        pattern=r"^[A-Za-z][A-Za-z0-9-]{0,99}$",
        description="Header in which a proxy of console.trusted_proxies says who is signed in, such as "
        "X-Forwarded-User; then that is asked for, or a token. From others it is refused. None: it means nothing.",
    )
    tokens: list[str] = Field(
        [], description="SHA-256 hashes (`ayaflow hash-token`); with one, a bearer token must be sent."
    )
    producers: list[str] = Field(
        [], description="Where producers are asked for their health (HOST:PORT); empty: at producer.metrics_listen."
    )
    streams: list[str] = Field(
        [], description="Where the workers of streams are asked for theirs; empty: at streams.metrics_listen."
    )
    tls_certificate: Path | None = Field(None, description="PEM file with the certificate chain; serves HTTPS.")
    tls_key: Path | None = Field(None, description="PEM file with the certificate's key.")
    heavy_queries: int = Field(
        4, ge=1, le=64, description="Queries that ClickHouse may answer for the API at a time; more wait, then get 429."
    )
    query_seconds: int = Field(15, ge=1, le=3600, description="max_execution_time of a query of the API.")
    query_rows: int = Field(
        2_000_000_000, ge=1, description="max_rows_to_read of a query of the API: rows that one may read."
    )

    @field_validator("allowed_ips", "trusted_proxies")
    @classmethod
    def _networks(cls, value: list[str]) -> list[str]:
        for text in value:
            ipaddress.ip_network(text, strict=False)
        return value

    @field_validator("tokens")
    @classmethod
    def _hashes(cls, value: list[str]) -> list[str]:
        for text in value:
            if len(text) != 64 or not set(text.lower()) <= set("0123456789abcdef"):
                raise ValueError("a token is given by its SHA-256 hash; `ayaflow hash-token` makes it")
        return value

    @model_validator(mode="after")
    def _header_and_proxies(self) -> Self:
        if self.user_header is not None and not self.trusted_proxies:
            raise ValueError("user_header needs trusted_proxies: nobody else is believed who is signed in")
        return self

    @model_validator(mode="after")
    def _certificate_and_key(self) -> Self:
        if (self.tls_certificate is None) is not (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key go together")
        return self


class LiveSettings(Section):
    """The live view."""

    connection_timeout_seconds: float = Field(
        60, gt=0, le=3600, description="A connection without a packet for this long is no longer active."
    )
