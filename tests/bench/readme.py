"""Writes the tables of docs/benchmarks/README.md from the JSON beside it. Run: python -m tests.bench.readme"""

from tests.bench.results import FOLDER, Result, table

BEGIN, END = "<!-- from the JSON: python -m tests.bench.readme -->", "<!-- end of what is made -->"


def text() -> str:
    """What stands between the two marks."""
    from tests.bench.__main__ import NAMES

    parts = []
    for name in NAMES:
        path = FOLDER / f"{name}.json"
        if not path.exists():
            continue
        result = Result.read(path)
        where = result.machine
        parts.append(
            f"### {name}: {result.what}\n\n{table(result)}\n\n"
            f"`make bench-{name}`: {result.seconds:.0f} s on {where['machine']}, {where['cpu']}, "
            f"kernel {where['kernel']}, Python {where['python']}, {where['packages']}; "
            f"commit {where['commit']}, {where['date']}; "
            f"load of the machine before and after: {result.load[0]:g}, {result.load[1]:g}.\n"
        )
    return "\n".join(parts)


def write() -> None:
    path = FOLDER / "README.md"
    before, _, rest = path.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n\n{text()}\n{END}{after}")


if __name__ == "__main__":
    write()
