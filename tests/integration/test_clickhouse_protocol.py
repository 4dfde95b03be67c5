"""What clients ask of ClickHouse's protocol beside the query: it is done, or refused with a sentence."""

import itertools
import json
import threading
import uuid
from typing import Any

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError
from clickhouse_connect.driver.external import ExternalData

from deploy.local.clickhouse.wire import native
from tests.integration.fix_clickhouse import http
from tests.waiting import until

pytestmark = pytest.mark.clickhouse

TYPES = {
    "UInt8": "number",
    "Bool": "number % 2 = 0",
    "Nothing in Nullable": "NULL",
    "String": "repeat('x', number * 50)",
    "FixedString": "toFixedString('ab', 3)",
    "Nullable": "if(number % 2 = 0, NULL, toString(number))",
    "LowCardinality": "toLowCardinality(toString(number % 3))",
    "LowCardinality Nullable": "toLowCardinality(if(number % 3 = 0, NULL, toString(number % 3)))",
    "LowCardinality FixedString": "toLowCardinality(toFixedString(toString(number), 3))",
    "Array": "range(number % 4)",
    "Array of Array of LowCardinality": "arrayMap(x -> [toLowCardinality(toString(x))], range(number % 3))",
    "empty Arrays": "CAST([] AS Array(LowCardinality(String)))",
    "Map": "map('a', number, concat('b ,', toString(number)), 2)",
    "Tuple": "CAST((number, 'x') AS Tuple(`a b` UInt64, c String))",
    "Tuple without names": "(number, ['x', toString(number)])",
    "Nested": "CAST([(number, 'a')] AS Nested(a UInt8, b LowCardinality(String)))",
    "Enum": "CAST('it''s, (x)' AS Enum8('it\\'s, (x)' = 1))",
    "Decimals": "(toDecimal32(number, 2), toDecimal64(number, 2), toDecimal128(number, 3), toDecimal256(number, 4))",
    "times": "(toDate(number), toDate32(number), toDateTime(number, 'Asia/Tokyo'), toDateTime64(number, 6, 'UTC'))",
    "addresses": "(toIPv4('1.2.3.4'), toIPv6('::1'), toUUID('00000000-0000-0000-0000-000000000001'))",
    "large numbers": "(toInt128(number), toUInt256(number), toFloat32(number), toFloat64(number))",
    "Interval": "toIntervalDay(number)",
    "Point and Polygon": "(CAST((1, 2) AS Point), CAST([[(1, 2), (3, 4)]] AS Polygon))",
    "Variant": "CAST(if(number % 2 = 0, toString(number), NULL) AS Variant(Array(UInt8), String))",
    "SimpleAggregateFunction": "CAST(number AS SimpleAggregateFunction(sum, UInt64))",
}


@pytest.mark.parametrize("name", TYPES)
def test_native_is_written_as_the_clients_version_has_it(clickhouse_server: str, name: str) -> None:
    query = f"SELECT number AS before, {TYPES[name]} AS x, 'after' AS after FROM numbers(7) FORMAT Native".encode()
    plain = http(clickhouse_server, query)[2]
    status, _, versioned = http(clickhouse_server, query, client_protocol_version="54460")
    assert status == 200, versioned
    assert versioned.startswith(b"\x01\x00\x02\xff\xff\xff\xff\x00\x03\x07\x06before\x06UInt64\x00\x00")
    assert versioned.endswith(b"\x05after\x06String\x00" + b"\x05after" * 7)
    assert len(versioned) == len(plain) + 8 + 3
    assert http(clickhouse_server, query, client_protocol_version="54405")[2] == plain


def test_native_of_many_blocks_has_the_info_of_each(clickhouse_server: str) -> None:
    query = b"SELECT number, toString(number) FROM numbers(200000) FORMAT Native"
    plain = http(clickhouse_server, query)[2]
    versioned = http(clickhouse_server, query, client_protocol_version="54460")[2]
    assert versioned == native.with_info(plain)
    assert len(versioned) - len(plain) in range(10 * 2, 10 * 20)
    shown = http(clickhouse_server, b"SHOW DATABASES FORMAT Native", client_protocol_version="54460")[2]
    assert shown.startswith(b"\x01\x00\x02\xff\xff\xff\xff\x00\x01")


@pytest.mark.parametrize("kind", ["5::Dynamic", "sumState(number)", "'{\"a\":1}'::JSON"])
def test_what_cannot_be_passed_over_is_refused_and_not_sent_wrong(clickhouse_server: str, kind: str) -> None:
    query = f"SELECT {kind} AS x FROM numbers(3) GROUP BY number FORMAT Native".encode()
    status, _, text = http(clickhouse_server, query, client_protocol_version="54460")
    assert (status, b"name another FORMAT" in text) == (400, True), text


@pytest.mark.parametrize(
    "name", ["role", "add_http_cors_header", "stacktrace", "http_write_exception_in_output_format"]
)
def test_what_is_not_to_be_had_is_refused(clickhouse_server: str, name: str) -> None:
    options: dict[str, Any] = {name: "1"}
    status, _, text = http(clickhouse_server, b"SELECT 1", **options)
    assert (status, text.startswith(b"Code: 48. DB::Exception: " + name.encode())) == (501, True), text
    options = {name: ""}
    assert http(clickhouse_server, b"SELECT 1", **options)[2] == b"1\n"


def test_a_session_is_checked_closed_and_ends_in_time(clickhouse_server: str) -> None:
    session = uuid.uuid4().hex
    status, headers, _ = http(clickhouse_server, b"SELECT 1", session_id=session, session_check="1")
    assert (status, headers["X-ClickHouse-Exception-Code"]) == (404, "372")
    http(clickhouse_server, b"SET max_block_size = 78", session_id=session)
    ask = b"SELECT getSetting('max_block_size')"
    assert http(clickhouse_server, ask, session_id=session, session_check="1", close_session="1")[2] == b"78\n"
    assert http(clickhouse_server, ask, session_id=session, session_check="1")[0] == 404
    for wrong in ("0", "3601", "soon", "nan"):
        status, _, text = http(clickhouse_server, b"SELECT 1", session_id=session, session_timeout=wrong)
        assert (status, b"session_timeout" in text) == (400, True)


def test_kill_query_finds_the_id_that_a_client_gave(clickhouse_server: str) -> None:
    answer: list[Any] = []
    query = b"SELECT count() FROM numbers(100000000000) WHERE 'slow_one' != ''"

    def run() -> None:
        answer.append(http(clickhouse_server, query, query_id="it's mine", log_comment="of the test"))

    thread = threading.Thread(target=run)
    thread.start()
    shown = b"SELECT Settings['log_comment'] FROM system.processes WHERE query LIKE 'SELECT count%slow_one%'"
    until(lambda: http(clickhouse_server, shown)[2].endswith(b" of the test\n"))
    status, headers, _ = http(clickhouse_server, b"SELECT 1", query_id="it's mine")
    assert (status, headers["X-ClickHouse-Exception-Code"]) == (409, "216")
    http(clickhouse_server, b"KILL QUERY WHERE query_id = 'another'")
    assert thread.is_alive()
    http(clickhouse_server, rb"KILL QUERY WHERE query_id = 'it\'s mine' SYNC")
    thread.join(60)
    assert answer[0][1]["X-ClickHouse-Exception-Code"] == "394"
    assert http(clickhouse_server, b"SELECT 1", query_id="it's mine")[2] == b"1\n"


def test_the_summary_tells_what_was_read(clickhouse_server: str) -> None:
    name = f"t_{uuid.uuid4().hex}"
    http(clickhouse_server, f"CREATE TABLE {name} (a UInt64) ENGINE = MergeTree ORDER BY a".encode())
    written = http(clickhouse_server, f"INSERT INTO {name} SELECT number FROM numbers(1000)".encode())[1]
    assert json.loads(written["X-ClickHouse-Summary"])["written_rows"] == "1000"
    for form in ("TSV", "JSON"):
        query = f"SELECT sum(a) FROM {name} FORMAT {form}".encode()
        headers = http(clickhouse_server, query, send_progress_in_http_headers="1")[1]
        assert json.loads(headers["X-ClickHouse-Summary"])["read_rows"] == "1000"
        assert headers["X-ClickHouse-Progress"] == headers["X-ClickHouse-Summary"]


def test_external_data_is_a_table_of_one_query(client: Any, clickhouse_server: str) -> None:
    data = ExternalData(file_name="ext.csv", fmt="CSV", structure="a UInt8, b String", data=b"1,x\n2,y\n")
    for _ in range(2):  # the client keeps a session
        found = client.query("SELECT b FROM ext WHERE a = {a:UInt8}", parameters={"a": 2}, external_data=data)
        assert found.result_rows == [("y",)]
    with pytest.raises(DatabaseError, match="ext"):
        client.query("SELECT b FROM ext")
    typed = ExternalData(file_name="other", types="UInt8,String", data=b"7\tz\n")
    assert client.query("SELECT _2, _1 FROM other", external_data=typed).result_rows == [("z", 7)]
    form = b'--X\r\nContent-Disposition: form-data; name="e"; filename="e"\r\n\r\n1\n\r\n--X--\r\n'
    status, _, text = http(
        clickhouse_server, form, {"Content-Type": "multipart/form-data; boundary=X"}, query="SELECT * FROM e"
    )
    assert (status, b"e_structure or e_types" in text) == (400, True)


def test_every_parameter_is_in_one_list_alone() -> None:
    from deploy.local.clickhouse import http_query

    lists = [http_query.HONOURED, {*http_query.WITHOUT_EFFECT}, {*http_query.REFUSED}]
    assert not [one & other for one, other in itertools.combinations(lists, 2) if one & other]
