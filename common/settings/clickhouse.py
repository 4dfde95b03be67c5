"""The ClickHouse server's settings."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from common.settings.base import Section

_LAST = datetime(2106, 2, 7, 6, 28, 15, tzinfo=UTC)  # seconds since 1970 in 32 bits: ClickHouse's DateTime
_LEAST_CAP = 1_000_000  # bytes: what is less is meant in other units
_AHEAD_DAYS = 366  # of rows that are still to come, and of clocks that are ahead


def most_retention_days(now: datetime) -> int:
    """The longest time that rows can be kept: a TTL behind the last DateTime would be long ago, and the rows gone."""
    return (_LAST - now).days - _AHEAD_DAYS


class ClickHouseSettings(Section):
    """The ClickHouse server, and our tables in it."""

    url: str = Field(
        "http://127.0.0.1:8123",
        pattern=r"^https?://",
        description="HTTP interface; without a port 8123, with https 8443. With `clickhouse.cluster` several of its "
        "hosts, separated by commas: the first that answers is asked, and the next one when it fails.",
    )
    database: str = Field("ayaflow", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="Database of our tables.")
    username: str = Field("default", description="User.")
    password: str = Field("", repr=False, description="Password; `${file:/run/secrets/x}` is that file's text.")
    tls_ca: Path | None = Field(
        None, description="PEM file of the authorities that https servers are certified by; none: the machine's."
    )
    cluster: str | None = Field(None, description="Make Replicated and Distributed tables on this cluster.")
    flows_retention_days: int = Field(90, ge=1, description="TTL of the raw windows.")
    names_retention_days: int = Field(30, ge=1, description="TTL of the table names, from when Kafka took a message.")
    max_bytes: int = Field(
        0,
        ge=0,
        le=2**63 - 1,
        description="Cap on what our tables take of the disk (of a cluster: of the server that has most): before it is "
        "reached the oldest days go, and `dropped` tells of them; 0: none.",
    )
    reserve_bytes: int | None = Field(
        None,
        ge=0,
        le=2**63 - 1,
        description="So much of ClickHouse's disk is kept free in the same way; none: 1 GiB, or a twentieth of a "
        "smaller disk; 0: nothing is.",
    )
    rollup_retention_days: int = Field(730, ge=1, description="TTL of the rollups: services_1m, flows_1h and so on.")

    @field_validator("flows_retention_days", "names_retention_days", "rollup_retention_days")
    @classmethod
    def _before_2106(cls, value: int) -> int:
        if value > (most := most_retention_days(datetime.now(UTC))):
            raise ValueError(
                f"at most {most} days: ClickHouse's times end in 2106, and what is kept for longer is deleted at once"
            )
        return value

    @property
    def retention(self) -> dict[str, int]:
        """Days by setting."""
        return {name: value for name, value in self.model_dump().items() if name.endswith("_retention_days")}

    @property
    def on_cluster(self) -> str:
        """What stands behind the name of a table that a statement changes on all servers."""
        return f" ON CLUSTER '{self.cluster}'" if self.cluster else ""

    def stored(self, table: str) -> str:
        """The table that has the rows, on each server; its plain name is that of all of them."""
        return f"{table}_local" if self.cluster else table

    def system(self, table: str) -> str:
        """A table of the database `system`, of all servers."""
        return f"clusterAllReplicas('{self.cluster}', system.{table})" if self.cluster else f"system.{table}"

    @field_validator("max_bytes")
    @classmethod
    def _in_bytes(cls, value: int) -> int:
        if 0 < value < _LEAST_CAP:
            raise ValueError(f"bytes, and at least {_LEAST_CAP:,}: with less every day before today would go; 0: none")
        return value

    @model_validator(mode="after")
    def _rollups_as_long_as_flows(self) -> Self:
        if self.rollup_retention_days < self.flows_retention_days:
            raise ValueError(
                f"rollup_retention_days ({self.rollup_retention_days}) is shorter than flows_retention_days "
                f"({self.flows_retention_days}): sums are read from the rollups, and the ledger says what flows must "
                "have; keep them for as long, or longer"
            )
        return self

    @model_validator(mode="after")
    def _hosts_of_a_cluster(self) -> Self:
        if "," in self.url and not self.cluster:
            raise ValueError(
                "several hosts in url have the same tables only with clickhouse.cluster: set that too, or name one host"
            )
        return self
