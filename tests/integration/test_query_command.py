"""`ayaflow query` on a real ClickHouse (chdb): formats, errors, streaming."""

import csv
import io
import json
import subprocess
import sys

import pytest

from tests.fix_local import REPOSITORY
from tests.integration.fix_tables import Run, Tables, lines
from tests.waiting import HANG_SECONDS

pytestmark = pytest.mark.clickhouse


def test_query_answers_in_each_format(run: Run, tables: Tables, window: int) -> None:
    tables.flow(window_begin=window, packets=3, bytes=2**63)
    sql = "SELECT src_addr, sum(bytes) AS b, [dst_addr] AS d, NULL AS n, 'a,\"b' AS s FROM flows GROUP BY ALL;"
    assert lines(run("query", sql, "--format", "json")[1]) == [
        {"src_addr": "10.0.0.1", "b": 2**63, "d": ["10.0.0.2"], "n": None, "s": 'a,"b'}
    ]
    assert list(csv.reader(io.StringIO(run("query", sql, "--format", "csv")[1]))) == [
        ["src_addr", "b", "d", "n", "s"],
        ["10.0.0.1", str(2**63), '["10.0.0.2"]', "", 'a,"b'],
    ]
    assert run("query", sql)[1].splitlines()[1].split() == ["10.0.0.1", str(2**63), '["10.0.0.2"]', 'a,"b']


def test_sums_that_count_a_packet_of_a_router_twice_are_told(run: Run, tables: Tables, window: int) -> None:
    once, either = "SELECT sum(packets) AS p FROM flows WHERE primary", "SELECT sum(packets) AS p FROM flows"
    tables.flow(window_begin=window, packets=3)
    assert not run("query", either)[2]
    tables.flow(window_begin=window, packets=3, interface="eth1", primary=False)
    said = run("query", either, "--format", "json")
    assert lines(said[1]) == [{"p": 6}]
    assert "sums WHERE primary count every packet once" in said[2]
    said = run("query", once, "--format", "json")
    assert lines(said[1]) == [{"p": 3}]
    assert "WHERE primary" not in said[2]


def test_queries_without_addresses_come_out_the_same(run: Run, tables: Tables) -> None:
    sql = (
        "SELECT toDateTime(0, 'UTC') AS t, toDateTime64(1.5, 3, 'UTC') AS u, toUInt64(18446744073709551615) AS m,"
        " 0.5 AS f, 'x\"\\r\\n,y' AS s, CAST('ingress' AS Enum8('ingress' = 0)) AS e,"
        " CAST(NULL AS Nullable(Int8)) AS n FROM numbers(2)"
    )
    expected = {
        "t": "1970-01-01T00:00:00Z",
        "u": "1970-01-01T00:00:01.500Z",
        "m": 2**64 - 1,
        "f": 0.5,
        "s": 'x"\r\n,y',
        "e": "ingress",
        "n": None,
    }
    assert lines(run("query", sql, "--format", "json")[1]) == [expected, expected]
    out = run("query", sql, "--format", "csv")[1]
    header, *rows = csv.reader(io.StringIO(out, newline=""))
    assert header == list(expected)
    assert rows == [["" if value is None else str(value) for value in expected.values()]] * 2


def test_a_format_of_the_querys_own_wins(run: Run, tables: Tables) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "query", "SELECT 1 AS a, 'x' AS b FORMAT TabSeparatedWithNames"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "a\tb\n1\tx\n", "")


@pytest.mark.parametrize(
    ("sql", "code", "hint"),
    [
        ("DROP TABLE flows", 2, "only reads"),
        ("INSERT INTO flows (node) VALUES ('x')", 2, "only reads"),
        ("ALTER TABLE flows DELETE WHERE 1", 2, "only reads"),
        ("SELEC 1", 2, "SELECT"),
        ("SET max_threads = 1", 2, "SELECT … SETTINGS max_threads = 1"),
        ("/* a */ -- b\n(USE ayaflow", 2, "no statement that gives rows"),
        ("SELECT FROM WHERE", 2, "Code: 62"),
        ("SELECT 1; SELECT 2", 2, "Code: 62"),
        ("SELECT * FROM flowz", 2, "Maybe you meant"),
        ("SELECT nope FROM flows", 2, "Code: 47"),
        ("SELECT throwIf(number = 3) FROM numbers(10)", 2, "Code: 395"),
    ],
)
def test_a_query_that_cannot_be_answered_is_one_line(
    run: Run, tables: Tables, window: int, sql: str, code: int, hint: str
) -> None:
    tables.flow(window_begin=window, packets=1)
    for form in ("table", "json", "csv"):
        found, _, err = run("query", sql, "--format", form)
        assert found == code
        assert err.startswith("ayaflow: error: ")
        assert err.count("\n") == 1
        assert hint in err
        assert "version" not in err
    assert run("query", "SELECT count() FROM flows", "--format", "json")[1] == '{"count()":1}\n'


@pytest.mark.parametrize("column", ["toIPv6('::1')", "'x'"])
@pytest.mark.parametrize("form", ["json", "csv"])
def test_an_error_in_the_middle_of_a_result_is_told_after_the_rows_before_it(
    run: Run, tables: Tables, column: str, form: str
) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "cli.main",
            "query",
            f"SELECT number, {column} AS a, throwIf(number = 300000) AS t FROM numbers(600000)",
            "--format",
            form,
        ],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("ayaflow: error: ClickHouse: Code: 395.")
    assert done.stderr.count("\n") == 1
    rows = done.stdout.splitlines()
    assert 60_000 < len(rows) <= 300_001
    assert "exception" not in done.stdout
    assert "Code" not in done.stdout


def test_without_our_tables_it_says_who_makes_them(run: Run, tables: Tables) -> None:
    for words in (("flows",), ("audit",), ("query", "SELECT 1 FROM ledger")):
        for database in ("default", "ayaflow_nobody_made_this"):
            code, _, err = run(*words, "--set", f"clickhouse.database={database}")
            assert code == 4
            assert "ayaflow streams" in err


@pytest.mark.parametrize(("column", "first"), [("toIPv6('::ffff:10.0.0.1')", "10.0.0.1"), ("'x'", "x")])
def test_a_large_result_is_streamed(run: Run, tables: Tables, column: str, first: str) -> None:
    """Rows arrive before the query is over (it would be 300 M rows), and a reader that has enough ends it."""
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            "cli.main",
            "query",
            f"SELECT number, {column} AS a FROM numbers(300000000)",
            "--format",
            "json",
        ],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            assert json.loads(process.stdout.readline()) == {"number": 0, "a": first}
            process.stdout.close()
            assert process.wait(HANG_SECONDS) == 141
            assert process.stderr.read() == b""
        finally:
            process.kill()
