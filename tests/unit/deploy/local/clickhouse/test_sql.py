"""Routing of statements: what takes data, what format it answers in, what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import QueryError
from deploy.local.clickhouse import sql


@pytest.mark.parametrize(
    ("query", "head", "format_name", "data"),
    [
        (b"INSERT INTO t FORMAT CSV\n1,2\n", "INSERT INTO t", "CSV", b"1,2\n"),
        (b"INSERT INTO t FORMAT CSV \r\n1,2\n", "INSERT INTO t", "CSV", b"1,2\n"),
        (b"insert into d.t (a, `format`) values (1, 'x')", "insert into d.t (a, `format`)", "Values", b"(1, 'x')"),
        (
            b"/* why */ INSERT INTO t -- FORMAT TSV\n FORMAT Arrow",
            "/* why */ INSERT INTO t -- FORMAT TSV",
            "Arrow",
            b"",
        ),
        (
            b"INSERT INTO t SETTINGS a = 'FORMAT x' FORMAT Native\n\x00\xff",
            "INSERT INTO t SETTINGS a = 'FORMAT x'",
            "Native",
            b"\x00\xff",
        ),
        (
            b"INSERT INTO FUNCTION null('a UInt8') FORMAT TSV\n\n\n",
            "INSERT INTO FUNCTION null('a UInt8')",
            "TSV",
            b"\n\n",
        ),
    ],
)
def test_an_insert_is_split_into_statement_format_and_data(
    query: bytes, head: str, format_name: str, data: bytes
) -> None:
    assert sql.split_insert(query) == sql.Insert(head=head, format=format_name, data=data)


@pytest.mark.parametrize(
    "query",
    [
        b"INSERT INTO t SELECT 1 FORMAT Null",
        b"INSERT INTO t (a) WITH 1 AS x SELECT x",
        b"SELECT 'INSERT INTO t VALUES'",
        b"",
        b"INSERT INTO t (SELECT 1)",
        b"-- INSERT INTO t VALUES (1)",
        b"INSERT INTO t FROM INFILE 'x' FORMAT CSV",
    ],
)
def test_what_takes_no_data_is_not_split(query: bytes) -> None:
    assert sql.split_insert(query) is None


@pytest.mark.parametrize(
    ("head", "before", "after"),
    [
        ("INSERT INTO t", "INSERT INTO t", ""),
        ("INSERT INTO t -- why", "INSERT INTO t -- why", ""),
        (
            "INSERT INTO settings (a) settings x = 'settings y = 1'",
            "INSERT INTO settings (a)",
            "settings x = 'settings y = 1'",
        ),
    ],
)
def test_a_file_stands_before_the_settings_and_behind_comments(head: str, before: str, after: str) -> None:
    found = sql.from_file(head, "/dev/fd/3", "CSV")
    assert found == f"{before}\nFROM INFILE '/dev/fd/3' COMPRESSION 'none'\n{after}\nFORMAT CSV"


def test_an_insert_without_the_name_of_its_format_is_a_sentence() -> None:
    with pytest.raises(QueryError, match="name of a format is missing"):
        sql.split_insert(b"INSERT INTO t FORMAT")


@given(st.binary(max_size=200))
def test_data_of_any_bytes_is_not_touched(data: bytes) -> None:
    found = sql.split_insert(b"INSERT INTO t FORMAT RowBinary\n" + data)
    assert found is not None
    assert found.data == data


@pytest.mark.parametrize(
    ("query", "format_name"),
    [
        (b"SELECT 1 FORMAT JSON", "JSON"),
        (b"SELECT 1 format JSON ;", "JSON"),
        (b"SELECT 1", None),
        (b"SELECT 1 FORMAT CSV SETTINGS max_threads = 1", "CSV"),
        (b"SELECT 'x' AS format", None),
        (b"SELECT format FROM t", None),
        (b"SELECT 'FORMAT JSON'", None),
        (b"SELECT 1 -- FORMAT JSON", None),
        (b"SELECT * FROM (SELECT 1 FORMAT JSON) x", None),
    ],
)
def test_the_format_of_an_answer_is_found(query: bytes, format_name: str | None) -> None:
    assert sql.answer_format(query) == format_name


@pytest.mark.parametrize(
    "query", [b"SELECT 1 INTO OUTFILE 'x'", b"SELECT 1 into/**/outfile 'x'", b"INSERT INTO t FROM INFILE 'x'"]
)
def test_files_of_the_caller_are_refused(query: bytes) -> None:
    with pytest.raises(sql.Refusal, match="the embedded ClickHouse"):
        sql.refuse(query)


@pytest.mark.parametrize("query", [b"SELECT 1 -- INTO OUTFILE 'x'", b"SELECT 'INTO OUTFILE' AS into"])
def test_texts_that_only_look_like_it_are_not_refused(query: bytes) -> None:
    sql.refuse(query)


@given(st.text(max_size=50))
def test_a_quoted_text_is_one_token(text: str) -> None:
    [token] = sql.tokens(sql.quote(text).encode())
    assert token.kind == "string"


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (b"CREATE TABLE IF NOT EXISTS t (x UInt8) ENGINE = Memory", True),
        (b"/* a */ create view v as select 1", True),
        (b"CREATE TEMPORARY TABLE t (x UInt8)", False),
        (b"ALTER TABLE t ADD COLUMN IF NOT EXISTS x UInt8", True),
        (b"ALTER TABLE t MODIFY TTL x + INTERVAL 1 DAY", True),
        (b"ALTER TABLE t DELETE IN PARTITION '2026-01-01' WHERE 1", True),
        (b"ALTER TABLE t DROP COLUMN partition", True),
        (b"ALTER TABLE t DROP PARTITION '2026-01-01'", False),
        (b"ALTER TABLE t ON CLUSTER c MOVE PARTITION '2026-01-01' TO TABLE u", False),
        (b"ALTER TABLE t REPLACE PARTITION '2026-01-01' FROM u", False),
        (b"RENAME TABLE t TO u", False),
        (b"DROP TABLE t", False),
        (b"SELECT 'ALTER TABLE t ADD COLUMN x'", False),
        (b"", False),
    ],
)
def test_which_statements_write_what_a_table_is(query: bytes, *, said: bool) -> None:
    assert sql.describes(query) is said
