"""The connection to ClickHouse: made when it is first used, and anew after whatever went wrong. Blocking.

There are two errors: ServiceUnavailable, the same may work later, and Refused, the server does not take these rows.
"""

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

import pyarrow as pa
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from common.clickhouse import Hosts
from common.deadline import within
from common.errors import AyaflowError, ServiceUnavailable
from common.settings import ClickHouseSettings
from schemas.clickhouse.horizon import Horizon
from streams.partition.storing import Refused
from streams.store.migrate import keep, migrate, remember

T = TypeVar("T")

_TIMEOUT_SECONDS = 120  # without a piece of an answer
ANSWER_SECONDS = 600.0  # for the whole of one
_STATEMENT_SECONDS = 3600.0  # for what the server may work on for long, of which it sends progress meanwhile
ONE_BLOCK: dict[str, Any] = {
    "async_insert": 0,  # an answer means that it is stored
    "insert_deduplicate": 1,
    "deduplicate_insert": "enable",  # the same, since 26; wins over it
    "deduplicate_blocks_in_dependent_materialized_views": 1,
    "max_insert_block_size": 1 << 31,
    "min_insert_block_size_rows": 1 << 31,
    "min_insert_block_size_bytes": 0,
    "max_insert_threads": 1,
    "max_partitions_per_insert_block": 0,  # a ledger may have epochs of many months: of a replay, of wrong clocks
    "input_format_parallel_parsing": 0,
}
"""So that an insert is one part: it is there or not."""
_ACCESS = frozenset({192, 193, 194, 497, 516})  # UNKNOWN_USER, …, ACCESS_DENIED, AUTHENTICATION_FAILED
_MAY_BE_UNKNOWN = frozenset({"deduplicate_insert", "max_partition_size_to_drop"})  # to older servers
_ON_A_CLUSTER: dict[str, Any] = {
    "distributed_foreground_insert": 1,
    "insert_quorum": "auto",
    "insert_quorum_parallel": 0,
    "select_sequential_consistency": 1,
}
_REFUSALS = frozenset(
    {
        6,  # CANNOT_PARSE_TEXT
        8,  # THERE_IS_NO_COLUMN
        10,  # NOT_FOUND_COLUMN_IN_BLOCK
        16,  # NO_SUCH_COLUMN_IN_TABLE
        20,  # NUMBER_OF_COLUMNS_DOESNT_MATCH
        27,  # CANNOT_PARSE_INPUT_ASSERTION_FAILED
        36,  # BAD_ARGUMENTS
        38,  # CANNOT_PARSE_DATE
        41,  # CANNOT_PARSE_DATETIME
        43,  # ILLEGAL_TYPE_OF_ARGUMENT
        44,  # ILLEGAL_COLUMN
        47,  # UNKNOWN_IDENTIFIER
        49,  # LOGICAL_ERROR
        50,  # UNKNOWN_TYPE
        53,  # TYPE_MISMATCH
        69,  # ARGUMENT_OUT_OF_BOUND
        70,  # CANNOT_CONVERT_TYPE
        72,  # CANNOT_PARSE_NUMBER
        117,  # INCORRECT_DATA
        122,  # INCOMPATIBLE_COLUMNS
        128,  # TOO_LARGE_ARRAY_SIZE
        131,  # TOO_LARGE_STRING_SIZE
        153,  # ILLEGAL_DIVISION
        190,  # SIZES_OF_ARRAYS_DONT_MATCH
        248,  # INVALID_PARTITION_VALUE
        321,  # VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
        349,  # CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
        395,  # FUNCTION_THROW_IF_VALUE_IS_NON_ZERO
        407,  # DECIMAL_OVERFLOW
        469,  # VIOLATED_CONSTRAINT
        691,  # UNKNOWN_ELEMENT_OF_ENUM
    }
)
"""Codes of an answer to an insert that speak of the rows and the table, not of the server's state."""


class Connection:
    """One client of clickhouse-connect, of one host at a time. Connecting migrates the tables."""

    def __init__(
        self, settings: ClickHouseSettings, horizon: Horizon | None, *, answer_seconds: float = ANSWER_SECONDS
    ) -> None:
        """`horizon`: how far back the server is to know the names of inserts, of tables whose TTL is to be that of the
        settings, too; None: both as they are.

        `answer_seconds`: for the whole of an answer to a question or an insert.

        Raises SettingsError.
        """
        self._settings, self._horizon, self._seconds = settings, horizon, answer_seconds
        self._hosts = Hosts(settings)
        self._client: Client | None = None
        self._extra = _ON_A_CLUSTER if settings.cluster else {}

    def query(self, sql: str, read: Callable[[Any], T], **parameters: Any) -> T:
        """What `read` makes of a SELECT's rows."""
        return self._call(
            lambda client: read(client.query(sql, parameters=parameters, settings=self._extra).result_rows)
        )

    def number(self, sql: str, **parameters: Any) -> int:
        """The one number that a SELECT answers."""
        return self.query(sql, lambda rows: int(rows[0][0]), **parameters)

    def arrow(self, sql: str, read: Callable[[pa.Table], T], **parameters: Any) -> T:
        """What `read` makes of a SELECT's columns."""
        return self._call(lambda client: read(client.query_arrow(sql, parameters=parameters, settings=self._extra)))

    def command(self, sql: str, settings: dict[str, Any] | None = None, **parameters: Any) -> None:
        """Run a statement."""
        wanted = {**self._extra, **(settings or {})}
        self._call(
            lambda client: client.command(sql, parameters=parameters, settings=_known(wanted, client)),
            seconds=_STATEMENT_SECONDS,
        )

    def insert(self, table: str, rows: pa.Table, settings: dict[str, Any] | None = None) -> None:
        """Insert rows as one block. Raises Refused when that is what the server says of them."""
        wanted = {**ONE_BLOCK, **self._extra, **(settings or {})}

        def work(client: Client) -> None:
            client.insert_arrow(table, rows, settings=_known(wanted, client))

        self._call(work, refusals=_REFUSALS)

    def close(self) -> None:
        """Close it; it is made anew when it is used again."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):  # what is broken may not even close
                client.close()
        self._hosts.close()  # also of one that was only being made

    def _call(
        self, work: Callable[[Client], T], refusals: frozenset[int] = frozenset(), seconds: float | None = None
    ) -> T:
        try:
            if self._client is None:
                self._client = self._connect()
            with within(self._seconds if seconds is None else seconds):
                return work(self._client)
        except Exception as error:
            # Besides ClickHouseError and OSError there is what urllib3, Arrow and the reader of ClickHouse's format
            # make of an answer that breaks off, or that is none. Look again at server and tables before the next try.
            self.close()
            said = f"ClickHouse at {self._hosts.asked.url} did not do its work: {_first_line(error)}"
            if getattr(error, "code", None) in refusals:
                raise Refused(said) from error
            self._hosts.leave()
            raise ServiceUnavailable(said) from error

    def _connect(self) -> Client:
        with (
            self._hosts.connect(database="default", timeout_seconds=_TIMEOUT_SECONDS) as client,
            within(_STATEMENT_SECONDS),
        ):
            migrate(client, self._settings)
            if self._horizon:
                remember(client, self._settings, self._horizon)
                keep(client, self._settings)
        return self._hosts.connect(database=self._settings.database, timeout_seconds=_TIMEOUT_SECONDS)


def _known(settings: dict[str, Any], client: Client) -> dict[str, Any]:
    return {k: v for k, v in settings.items() if k not in _MAY_BE_UNKNOWN or k in client.server_settings}


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    if not isinstance(error, ClickHouseError | OSError | AyaflowError):  # the last: a secret that cannot be read
        text = f"its answer cannot be read ({text})"
    return text.splitlines()[0][:300] + (
        " (authentication: see clickhouse.username and clickhouse.password)"
        if getattr(error, "code", None) in _ACCESS
        else ""
    )
