"""One run: an installation, steady traffic through it, and its neighbours in a seeded order beside it."""

import contextlib
import random
import time
import urllib.parse
from collections.abc import Callable, Sequence
from typing import Any

from schemas.avro.codec import Codec
from schemas.topics import TopicNames
from tests.faults import check
from tests.faults.installation import CONSOLE, installation
from tests.faults.proxy import running
from tests.faults.traffic import Sender
from tests.fix_registry import running_registry
from tests.hostile.neighbourhood import ACTS, Neighbourhood
from tests.hostile.watching import DIFFERS, EXACT, Watching

REGISTRY, PATH = 8081, "/apis/ccompat/v7"  # of the proxy in front of it


def hostile(
    seed: int, *, seconds: float, longest: float, pause: float, names: Sequence[str] | None = None
) -> dict[str, Any]:
    """Let it happen; all is stored once, and audit and health were right all the time -> figures.

    `names`: each of these once, in this order; None: all, again and again, until so many seconds have passed.
    """
    dice = random.Random(seed)
    with contextlib.ExitStack() as stack:
        system = stack.enter_context(
            installation(
                workers=2, also_watched=("hv*",), schema_registry={"url": f"http://127.0.0.1:{REGISTRY}{PATH}"}
            )
        )
        url = stack.enter_context(running_registry())
        address = urllib.parse.urlsplit(url)
        assert address.path == PATH
        topics = TopicNames.of("ayaflow.")
        codec = stack.enter_context(Codec(url, topics))
        registry = stack.enter_context(running(REGISTRY, address.port or 0))
        here = Neighbourhood(system=system, registry=registry, dice=dice, codec=codec, topics=topics)
        begin = time.monotonic()
        with Sender(system.sends, rate=2_000) as sender, Watching(system) as watching:
            stack.callback(_tell, here, watching)
            for name in names or _endless(dice, lambda: time.monotonic() - begin < seconds):
                here.happened.append(f"{time.monotonic() - begin:.1f} {name}")
                end = ACTS[name](here)
                began = time.time()
                try:
                    system.mind(dice.uniform(1, longest))
                finally:
                    here.spans.append((name, began, time.time()))
                    end()
                system.mind(dice.uniform(0, pause))
        return _judge(here, sender, watching)


def _tell(here: Neighbourhood, watching: Watching) -> None:
    """For whoever looks for the cause of a failure."""
    print("\n".join(here.happened))
    print("\n".join(here.system.deaths()))
    print(here.system.logs(20))
    print(_differing(here))
    print("\n".join(str(said) for said in watching.said[-10:]))
    print("\n".join(watching.lies))


def _endless(dice: random.Random, goes_on: Callable[[], bool]) -> Any:
    """All kinds before any again."""
    bag: list[str] = []
    while goes_on():
        if not bag:
            bag = sorted(ACTS)
            dice.shuffle(bag)
        yield bag.pop()


def _differing(here: Neighbourhood) -> dict[str, tuple[int, int]]:
    """Packets of strangers, sent and stored, where these differ."""
    rows = here.system.rows("SELECT node, sum(packets + packets_rev) AS p FROM flows GROUP BY node")
    stored = {row["node"]: row["p"] for row in rows}
    return {name: (sent, stored[name]) for name, sent in here.strangers.items() if stored.setdefault(name, 0) != sent}


def _judge(here: Neighbourhood, sender: Sender, watching: Watching) -> dict[str, Any]:
    system = here.system
    sent = sender.totals() | here.sent
    found = check.exact(system, sent)
    system.until(lambda: not _differing(here), "all of the strangers stored")
    system.until(lambda: bool(system.health(CONSOLE, "/api/health").get("ok")), "all well")
    done = system.ayaflow("audit")
    assert done.returncode == 0, done.stdout  # the strangers' packets, too
    assert watching.lies == [], "\n".join(watching.lies)
    untold = [span for span in here.spans if not watching.told(*span)]
    assert untold == [], "\n".join(f"{span}: {watching.between(*span[1:])}" for span in untold)
    # a window that is refused is not there, and the audit names it
    alarms = [said for said in watching.said if said.audit == DIFFERS and "in the table refused" not in said.message]
    assert alarms == [], f"{len(alarms)} of {len(watching.said)}: {alarms[0]}"
    assert system.deaths() == []
    return {
        "acts": len(here.happened),
        "sent": sum(packets for packets, _ in sent.values()),
        "stored": found.packets,
        "strangers": sum(here.strangers.values()),
        "audits": len(watching.said),
        "exact": sum(said.audit == EXACT for said in watching.said),
        "well": sum(said.well for said in watching.said),
        "settled_after_s": found.settle_seconds,
    }
