"""Our AsyncAPI document as the AsyncAPI initiative's own parser reads it, with the Avro schemas."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.settings import KafkaSettings
from schemas.asyncapi import document
from schemas.topics import described
from tests.fix_local import REPOSITORY
from tests.lacking import cannot_run
from tests.waiting import HANG_SECONDS

MODULES = REPOSITORY / ".venv/asyncapi/node_modules"
SCRIPT = Path(__file__).with_name("asyncapi.js")


@pytest.fixture
def read(tmp_path: Path) -> Callable[[Any], Any]:
    """Reads a document -> its channels' addresses, and what is wrong with it."""
    if not MODULES.is_dir():
        cannot_run(f"no AsyncAPI parser in {MODULES}: run make setup-test")

    def of(found: Any) -> Any:
        path = tmp_path / "asyncapi.json"
        path.write_text(json.dumps(found))
        command = ["node", str(SCRIPT), str(MODULES), str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=HANG_SECONDS)
        return json.loads(done.stdout)

    return of


def made() -> Any:
    return document(KafkaSettings(topic_prefix="lab."), group="g", registry_url="http://registry:8081", version="1")


def test_nothing_is_wrong_with_it(read: Callable[[Any], Any]) -> None:
    wanted = [each.name for each in described(KafkaSettings(topic_prefix="lab."))]
    assert read(made()) == {"faults": [], "channels": wanted}
    committed = json.loads((REPOSITORY / "docs/asyncapi.json").read_text())
    assert read(committed)["faults"] == []


def test_what_is_wrong_would_be_found(read: Callable[[Any], Any]) -> None:
    binding, schema = made(), made()
    binding["channels"]["flows"]["bindings"]["kafka"]["partitions"] = "four"
    assert [each for each in read(binding)["faults"] if "partitions" in each]
    del schema["components"]["messages"]["FlowRecord"]["payload"]["schema"]["fields"][0]["type"]
    assert read(schema)["faults"]
