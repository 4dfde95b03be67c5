"""The pages of docs/consumers are those of the engines, and what is cut out of them is what they say."""

import pytest

from tests.consumers import page
from tests.consumers.engines import ENGINES
from tests.consumers.totals import Totals, contradicted, said

TEXT = """# Python: thing 1.2

## Install

```console
$ pip install thing==1.2
installed
```

## Program

`src/main.py`, which adds up:

```python
print(1)
```

## Run

```console
$ python src/main.py
ayaflow.flows: 12 records, 345 packets, 6,789 bytes
```
"""


def test_a_page_is_cut_into_files_and_commands() -> None:
    assert page.cut(TEXT) == page.Page(
        title="Python: thing 1.2",
        files={"src/main.py": "print(1)\n"},
        install=("pip install thing==1.2",),
        run=("python src/main.py",),
    )


def test_what_a_program_says_is_read() -> None:
    assert said(
        "hello\nayaflow.flows: 12 records, 345 packets, 6,789 bytes\nayaflow.packets: 1 packets, 2 bytes\n"
    ) == {"ayaflow.flows": Totals(records=12, packets=345, bytes=6789), "ayaflow.packets": Totals(packets=1, bytes=2)}


def test_two_programs_that_differ_contradict_each_other() -> None:
    first = "ayaflow.flows: 12 records, 3,456 packets, 78 bytes\nayaflow.packets: 1 packets, 2 bytes\n"
    assert contradicted(first + "ayaflow.flows: 12 records, 3456 packets, 78 bytes\n") == []
    assert contradicted(first + "ayaflow.flows: 12 records, 3457 packets, 78 bytes\n") == ["ayaflow.flows"]


def test_each_engine_has_a_page_and_each_page_is_in_the_index() -> None:
    pages = {path.stem for path in page.PAGES.glob("*.md")} - {"README"}
    index = (page.PAGES / "README.md").read_text()
    assert pages == set(ENGINES)
    assert [name for name in ENGINES if f"({name}.md)" not in index] == []


@pytest.mark.parametrize("name", ENGINES)
def test_a_page_has_a_program_and_says_what_version_was_run(name: str) -> None:
    what = page.read(name)
    title, _, rest = (page.PAGES / f"{name}.md").read_text().partition("\n")
    assert what.files
    assert title.rsplit(" ", 1)[1] in rest
