"""KILL QUERY by the id that a client gave."""

import pytest

from deploy.local.clickhouse.access import Role
from deploy.local.clickhouse.running import Running, SameId
from deploy.local.clickhouse.sql import Refusal


def test_a_kill_by_a_clients_id_is_told_to_the_engine_by_its_mark() -> None:
    running = Running()
    with running.named("it's", "ayaflow-1"), running.named("other", "ayaflow-2"):
        said = running.in_words_of_the_engine(
            "KILL QUERY WHERE query_id IN ('it''s', 'nobody') AND user = 'default' SYNC", Role.WRITER
        )
        theirs = r"transform(splitByChar(' ', Settings['log_comment'])[1], ['ayaflow-1'], ['it\'s'], query_id)"
        assert said == f"KILL QUERY WHERE {theirs} IN ('it''s', 'nobody') AND user = 'default' SYNC"
        for query in (
            "KILL QUERY WHERE user = 'default'",
            "SELECT 'other' AS query_id",
            "KILL QUERY WHERE query_id = 'x'",
        ):
            assert running.in_words_of_the_engine(query, Role.WRITER) == query
        with pytest.raises(SameId, match="other is already running"), running.named("other", "ayaflow-3"):
            pass
    assert (
        running.in_words_of_the_engine("KILL QUERY WHERE query_id = 'other'", Role.WRITER)
        == "KILL QUERY WHERE query_id = 'other'"
    )


ONLY = "KILL QUERY WHERE startsWith(Settings['log_comment'], 'ayaflow-reader-') AND ("


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("KILL QUERY WHERE 1", ONLY + " 1\n) "),
        ("KILL QUERY WHERE 1 OR 1 SYNC", ONLY + " 1 OR 1 \n) SYNC"),
        ("KILL QUERY WHERE 1 -- all\n;", ONLY + " 1 -- all\n) \n;"),
        ("kill /**/ query WHERE (a = '(') ASYNC", "kill /**/ query WHERE" + ONLY[16:] + " (a = '(') \n) ASYNC"),
    ],
)
def test_a_reader_stops_the_queries_of_readers(query: str, told: str) -> None:
    assert Running().in_words_of_the_engine(query, Role.READER) == told


@pytest.mark.parametrize("query", ["KILL QUERY", "KILL QUERY WHERE 1) OR (1", "KILL QUERY WHERE 0\n) OR (1 SYNC"])
def test_a_reader_gets_no_further_by_parentheses(query: str) -> None:
    with pytest.raises(Refusal):
        Running().in_words_of_the_engine(query, Role.READER)
