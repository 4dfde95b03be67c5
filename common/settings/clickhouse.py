"""The ClickHouse server's settings."""

from pydantic import Field

from common.settings.base import Section


class ClickHouseSettings(Section):
    """The ClickHouse server, and our tables in it."""

    url: str = Field(
        "http://127.0.0.1:8123",
        pattern=r"^https?://",
        description="HTTP interface; without a port 8123, with https 8443.",
    )
    database: str = Field("ayaflow", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="Database of our tables.")
    username: str = Field("default", description="User.")
    password: str = Field("", description="Password.")
    cluster: str | None = Field(None, description="Make Replicated and Distributed tables on this cluster.")
    flows_retention_days: int = Field(90, ge=1, description="TTL of the raw windows.")
    rollup_retention_days: int = Field(730, ge=1, description="TTL of flows_1m and flows_1h.")
