"""The API against its own description: schemathesis makes questions of it, valid and not, and judges the answers.

Needs the embedded ClickHouse (chdb); no root, no Kafka. The questions are the same in every run.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CheckFunction, not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import positive_data_acceptance

from common import settings as settings_module
from console import app
from tests.fix_local import free_port
from tests.integration.fix_clickhouse import our_tables
from tests.integration.fix_console import served

pytestmark = pytest.mark.clickhouse
NOBODY = "127.0.0.1:1"
STAGES = {"kafka.bootstrap_servers": NOBODY, "producer.metrics_listen": NOBODY, "streams.metrics_listen": NOBODY}
DESCRIPTION = schemathesis.openapi.from_dict(app.build_app(settings_module.load(flags=STAGES)).openapi())


def operations() -> Iterator[APIOperation[Any, Any, Any, Any]]:
    for found in DESCRIPTION.get_all_operations():
        assert isinstance(found, Ok), found.err()
        yield found.ok()


OPERATIONS = {operation.label: operation for operation in operations()}


@pytest.fixture(scope="module")
def console(clickhouse_server: str) -> Iterator[str]:
    """A console over HTTP, whose ClickHouse has our tables and whose other stages are away."""
    port = free_port()
    loaded = settings_module.load(
        flags={**STAGES, "clickhouse.url": clickhouse_server, "clickhouse.database": "ayaflow_openapi_tests"}
    )
    with (
        our_tables(loaded.clickhouse),
        served(app.build_app(loaded, health_timeout_seconds=0.2), host="127.0.0.1", port=port),
    ):
        yield f"http://127.0.0.1:{port}"


# a text in a path cannot be wrong before it is looked up; a parameter of a query can
ASKED = [(label, GenerationMode.POSITIVE) for label in OPERATIONS] + [
    (label, GenerationMode.NEGATIVE) for label, operation in OPERATIONS.items() if len(operation.query)
]


@pytest.mark.parametrize(("label", "mode"), ASKED)
def test_each_answer_is_as_described(console: str, label: str, mode: GenerationMode) -> None:
    cases = OPERATIONS[label].as_strategy(generation_mode=mode)

    @settings(
        max_examples=8,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases)
    def ask(case: schemathesis.Case[Any]) -> None:
        # that a filter or a time is of our languages is more than a description can say
        excluded: list[CheckFunction] = [
            positive_data_acceptance,
            *([not_a_server_error] if label == "GET /api/health" else []),
        ]
        case.call_and_validate(base_url=console, excluded_checks=excluded)

    ask()
