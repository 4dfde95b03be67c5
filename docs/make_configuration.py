"""Writes docs/configuration.md from common/settings/ (`make docs`); a test fails when they differ."""

from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from common.settings import environment_name, setting_names

PAGE = Path(__file__).parent / "configuration.md"

HEAD = """# Configuration

One YAML file (`--config FILE` or `AYAFLOW_CONFIG`), then the environment, then command-line flags; the later wins.
Any setting can be given as `--set section.key=value`. In the environment, lists are separated by commas and mappings
are YAML. An unknown key is an error that names the nearest one.

```yaml
node: gateway-1
capture:
  interfaces: [eth0, eth1]
streams:
  window_seconds: 60
```

This page is written from `common/settings/` by `make docs`.

| setting | default | environment | what it does |
|---|---|---|---|
"""


def default(name: str, info: FieldInfo) -> str:
    """The default as it stands in YAML."""
    computed = {"node": "host name", "data_dir": "root: /var/lib/ayaflow; others: ~/.local/share/ayaflow"}
    if name in computed:
        return computed[name]
    value: Any = info.default
    if value is None or value is PydanticUndefined:
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`" if value != "" else "empty"


def page() -> str:
    """The whole page."""
    rows = [
        f"| `{name}` | {default(name, info)} | `{environment_name(name)}` | {info.description} |"
        for name, info in setting_names().items()
    ]
    return HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
