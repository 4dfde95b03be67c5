"""Everything runs under steady traffic, and its memory is watched: make soak MINUTES=30.

Writes docs/benchmarks/soak.json. Ends with 1 when the totals are not exact.
"""

import argparse
import datetime as dt
import json
import os
import platform
import sys
import time

from tests.bench.results import FOLDER
from tests.faults import check
from tests.faults.installation import installation
from tests.faults.rss import Memory
from tests.faults.traffic import Sender

WARM_UP = 1 / 3  # of the time
TARGET_MB_AN_HOUR = 1.0


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--minutes", type=float, default=30)
    arguments.add_argument("--rate", type=int, default=5_000, help="packets a second")
    chosen = arguments.parse_args()
    seconds = chosen.minutes * 60
    with installation(workers=1, window_seconds=10) as system, Memory(system, every_seconds=5) as memory:
        with Sender(system.sends, rate=chosen.rate) as sender:
            end = time.monotonic() + seconds
            audits = 0
            while time.monotonic() < end:
                system.mind(min(60.0, end - time.monotonic()))
                code, report = check.audit(system)
                assert code == 0, report["message"]
                audits += 1
        memory.__exit__(None, None, None)
        found = check.exact(system, sender.totals())
        deaths = system.deaths()
    slopes = memory.slopes(seconds * WARM_UP)
    result = {
        "minutes": chosen.minutes,
        "packets_per_second": chosen.rate,
        "sent": sender.stop().packets,
        "stored": found.packets,
        "audits_while_running": audits,
        "ended_by_itself": deaths,
        "warm_up_minutes": round(chosen.minutes * WARM_UP, 1),
        "rss_slope_mb_an_hour": slopes,
        "target_mb_an_hour": TARGET_MB_AN_HOUR,
        "rss_peak_mb": memory.peaks(),
        "rss_mb": {
            name: [[round(at), round(megabytes, 1)] for at, megabytes in samples[:: max(1, len(samples) // 60)]]
            for name, samples in memory.samples.items()
        },
        "when": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M"),
        "machine": f"{os.cpu_count()} CPUs, Linux {platform.release()}, load {os.getloadavg()[0]:.1f}",
    }
    (FOLDER / "soak.json").write_text(json.dumps(result, indent=1) + "\n")
    print(f"{chosen.minutes:g} minutes, {found.packets:,} packets, all stored once; part: MB an hour, highest MB")
    for name, slope in slopes.items():
        print(f"{name:12} {slope:8.2f} {memory.peaks()[name]:6}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
