"""Installs the engines, or runs them beside one site and prints what each counted.

    python -m tests.consumers prepare [ENGINE …]                    # asks registries
    tests/apart.sh python -m tests.consumers run [ENGINE …]         # as root; the default ports must be free

Exit code 1 when one of them failed or did not count the truth.
"""

import sys
from collections.abc import Sequence

from tests.consumers.engines import ENGINES, Engine, Failed
from tests.consumers.site import Site, site
from tests.consumers.totals import FLOWS, PACKETS


def prepare(engines: Sequence[Engine]) -> int:
    """Install them -> exit code."""
    failed = 0
    for engine in engines:
        print(f"{engine.name}: installing", flush=True)
        try:
            engine.prepare()
        except Failed as error:
            failed += 1
            print(f"{engine.name}: {error}", flush=True)
    return 1 if failed else 0


def run(engines: Sequence[Engine]) -> int:
    """Run them, print the table -> exit code."""
    failures = []
    with site() as here:
        print(
            f"{here.records:,} flow records, of which {here.twice:,} came twice, {here.late:,} are late and "
            f"{here.not_primary:,} not primary. By ayaflow audit: {here.flows}",
            flush=True,
        )
        width = max(len(engine.page.title) for engine in engines)
        for engine in engines:
            problem, seen = outcome(engine, here)
            print(f"{engine.page.title.ljust(width)}  {'FAIL' if problem else 'equal'}  {seen}", flush=True)
            if problem:
                failures.append(f"{engine.name}: {problem}")
    print("", *failures, f"{len(engines) - len(failures)} passed, {len(failures)} failed", sep="\n")
    return 1 if failures else 0


def outcome(engine: Engine, here: Site) -> tuple[str, str]:
    """What is wrong, and what it counted."""
    wanted = {FLOWS: here.flows, PACKETS: here.packets}
    try:
        found = engine.totals(wanted)
    except Failed as error:
        return str(error), ""
    seen = "; ".join(f"{topic}: {totals}" for topic, totals in found.items())
    if FLOWS not in found:
        return "it did not say what it counted", seen
    return (
        "; ".join(
            f"{topic}: {totals} and not {wanted[topic]}"
            for topic, totals in found.items()
            if not totals.equals(wanted[topic])
        ),
        seen,
    )


def main(words: Sequence[str]) -> int:
    """What the command line says -> exit code."""
    step, *names = words or ("",)
    steps = {"prepare": prepare, "run": run}
    if step not in steps:
        print(__doc__, file=sys.stderr)
        return 2
    if unknown := [name for name in names if name not in ENGINES]:
        print(f"no such engine: {', '.join(unknown)}; there are {', '.join(ENGINES)}", file=sys.stderr)
        return 2
    return steps[step]([ENGINES[name] for name in names or ENGINES])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
