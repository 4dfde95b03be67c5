"""clickhouse-connect at its defaults, by the program that `make test-clients` runs beside those of other languages."""

import pytest

from tests.clients.__main__ import CLIENTS, STEPS, results

pytestmark = pytest.mark.clickhouse


def test_clickhouse_connect_does_at_its_defaults_what_the_clients_of_other_languages_do(clickhouse_server: str) -> None:
    found = results(CLIENTS["python"], clickhouse_server)
    assert {step: found[step][0] for step in STEPS} == dict.fromkeys(STEPS, "ok"), found
