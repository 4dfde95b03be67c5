"""KILL QUERY by the id that a client gave."""

import pytest

from deploy.local.clickhouse.running import Running, SameId


def test_a_kill_by_a_clients_id_is_told_to_the_engine_by_its_mark() -> None:
    running = Running()
    with running.named("it's", "ayaflow-1"), running.named("other", "ayaflow-2"):
        said = running.in_words_of_the_engine(
            "KILL QUERY WHERE query_id IN ('it''s', 'nobody') AND user = 'default' SYNC"
        )
        theirs = r"transform(splitByChar(' ', Settings['log_comment'])[1], ['ayaflow-1'], ['it\'s'], query_id)"
        assert said == f"KILL QUERY WHERE {theirs} IN ('it''s', 'nobody') AND user = 'default' SYNC"
        for query in (
            "KILL QUERY WHERE user = 'default'",
            "SELECT 'other' AS query_id",
            "KILL QUERY WHERE query_id = 'x'",
        ):
            assert running.in_words_of_the_engine(query) == query
        with pytest.raises(SameId, match="other is already running"), running.named("other", "ayaflow-3"):
            pass
    assert (
        running.in_words_of_the_engine("KILL QUERY WHERE query_id = 'other'") == "KILL QUERY WHERE query_id = 'other'"
    )
