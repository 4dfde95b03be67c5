"""Whether a part in a container is well: the health check of our images.

    python healthy.py producer|streams|console

Where it listens is what the environment says, else the file that AYAFLOW_CONFIG names, else the default. Ends with 0
when it is well; else with 1 and what it says of itself. The console answers for all parts: it is well when it answers.
Uses nothing of ours, since it runs twice a minute.
"""

import os
import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path

import yaml

PARTS = {  # section, setting, default, path
    "producer": ("producer", "metrics_listen", "127.0.0.1:9464", "/health"),
    "streams": ("streams", "metrics_listen", "127.0.0.1:9465", "/health"),
    "console": ("console", "listen", "127.0.0.1:8080", "/api/health"),
}
SECONDS = 5
MOST_BYTES = 2000
ANYWHERE = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]", "": "127.0.0.1"}  # noqa: S104  where it listens, not we


def address(part: str) -> str:
    """URL of a part's health on this machine."""
    section, setting, listen, path = PARTS[part]
    file = os.environ.get("AYAFLOW_CONFIG")
    tree = (yaml.safe_load(Path(file).read_text("utf-8")) or {}) if file else {}

    def set_to(name: str, default: str) -> str:
        return os.environ.get(f"AYAFLOW_{section}_{name}".upper()) or (tree.get(section) or {}).get(name) or default

    host, _, port = set_to(setting, listen).rpartition(":")
    scheme = "https" if set_to("tls_certificate", "") else "http"
    return f"{scheme}://{ANYWHERE.get(host, host)}:{port}{path}"


def main(part: str) -> int:
    """Ask -> exit code."""
    url = address(part)
    unchecked = ssl.create_default_context()  # of this machine's own certificate only the name would be wrong
    unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
    secure = urllib.request.HTTPSHandler(context=unchecked)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), secure)  # no proxy knows this container
    try:
        with opener.open(url, timeout=SECONDS) as answer:
            answer.read(MOST_BYTES)
    except urllib.error.HTTPError as error:
        with error:
            said = error.read(MOST_BYTES).decode("utf-8", "replace")
        if part == "console":
            return 0
        sys.stderr.write(f"{url}: {error.code}: {said}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"{url} does not answer: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in PARTS:
        sys.exit(f"usage: healthy.py {'|'.join(PARTS)}")
    sys.exit(main(sys.argv[1]))
