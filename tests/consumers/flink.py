"""Runs the commands of docs/consumers/flink.md, and says what the tables that its SQL client prints add up to.

Windows, and minutes in which late records change what was told, must come to the same as the totals.

Run: python -m tests.consumers.flink
"""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from tests.consumers.page import read
from tests.consumers.totals import FLOWS, PACKETS, Totals

COMMANDS = read("flink").run
STOP = COMMANDS[-1]


@dataclass(frozen=True, slots=True)
class Printed:
    """A table as the client prints it; `rows` with the values by column."""

    columns: tuple[str, ...]
    rows: list[dict[str, str]]


def tables(output: str) -> Iterator[Printed]:
    """All, in order."""
    columns: tuple[str, ...] = ()
    rows: list[dict[str, str]] = []
    borders = 0  # above and below the names, and below the last row
    for line in output.splitlines():
        if line.endswith("-+"):
            borders += 1
            if borders == 3:
                yield Printed(columns, rows)
                borders, rows = 0, []
        elif borders and line.startswith("| "):
            values = tuple(value.strip() for value in line.strip("|").split("|"))
            if borders == 1:
                columns = values
            else:
                rows.append(dict(zip(columns, values, strict=True)))


def settled(table: Printed, key: str) -> list[dict[str, str]]:
    """What is left of a table of changes: the last row that was told of each value of `key`."""
    left: dict[str, dict[str, str]] = {}
    for row in table.rows:
        if row["op"].startswith("+"):
            left[row[key]] = row
        else:
            left.pop(row[key], None)
    return list(left.values())


def total(rows: list[dict[str, str]]) -> Totals:
    """The sum of rows."""
    records = sum(int(row["records"]) for row in rows) if "records" in rows[0] else None
    return Totals(
        records=records, packets=sum(int(row["packets"]) for row in rows), bytes=sum(int(row["bytes"]) for row in rows)
    )


def main() -> int:
    """Run all, the cluster is stopped in any case -> exit code."""
    output = ""
    try:
        for command in COMMANDS:
            if command != STOP:
                done = subprocess.run(["bash", "-c", command], stdout=subprocess.PIPE, text=True, check=True)
                output += done.stdout
                print(done.stdout, flush=True)
    finally:
        subprocess.run(["bash", "-c", STOP], check=True)
    totals, windows, minutes, top, packets = tables(output)
    wanted = total(totals.rows)
    for name, found in (("windows", total(windows.rows)), ("minutes", total(settled(minutes, "minute")))):
        if found != wanted:
            print(f"{name} add up to {found} and not to {wanted}")
            return 1
    if not all(row["src_addr"] and row["dst_addr"] for row in top.rows):
        print(f"packets without addresses: {top.rows}")
        return 1
    print(f"{FLOWS}: {wanted}\n{PACKETS}: {total(packets.rows)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
