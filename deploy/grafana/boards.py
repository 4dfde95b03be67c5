"""Writes the dashboards to deploy/grafana/boards, from where Grafana's provisioning reads them (`make docs`)."""

import json
from pathlib import Path
from typing import Any

from deploy.grafana import health, traffic

FOLDER = Path(__file__).with_name("boards")
BOARDS: dict[str, dict[str, Any]] = {"traffic.json": traffic.BOARD, "health.json": health.BOARD}


def text(name: str) -> str:
    """What a file of the folder has."""
    return json.dumps(BOARDS[name], indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in BOARDS:
        (FOLDER / name).write_text(text(name), "utf-8")
