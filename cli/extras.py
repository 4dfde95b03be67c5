"""Which extra of the package a command needs, and the sentence for whoever has installed another one."""

from common.errors import EnvironmentProblem

EXTRAS = {
    "up": "local",
    "demo": "local",
    "producer": "producer",
    "streams": "streams",
    "console": "console",
    "kafka": "local",
    "clickhouse": "local",
    "top": "console",
    "flows": "console",
    "names": "console",
    "report": "console",
    "query": "console",
    "replay": "producer,console",
    "audit": "console",
    "doctor": "console",
    "rewindow": "streams,console",
    "rewindows": "streams,console",
    "repair": "streams",
    "schemas": "console",
    "kafka-tool": "local",
    "detach": "producer",
}
"""Command -> the extras that it needs; the others need none."""

_NOT_PIPS = {"ayaflow", "bcc", "bpf", "cli", "common", "console", "deploy", "producer", "schemas", "streams"}


def problem(command: str, missing: str) -> EnvironmentProblem | None:
    """What to tell when a module is missing (its dotted name); None when pip would not bring it: a fault of ours."""
    library = missing.partition(".")[0]
    if library in _NOT_PIPS or command not in EXTRAS:
        return None
    return EnvironmentProblem(
        f"`ayaflow {command}` needs {library}, which is not installed; run: pip install 'ayaflow[{EXTRAS[command]}]'"
    )
