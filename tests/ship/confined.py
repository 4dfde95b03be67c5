"""Runs a program as Kubernetes runs the producer's container: root with six capabilities, no others to be had, and
the system calls of deploy/seccomp/producer.json, which libseccomp makes a filter of as container runtimes do.

    python -m tests.ship.confined deploy/seccomp/producer.json PROGRAM …
"""

import ctypes
import json
import os
import sys
from pathlib import Path
from typing import Any

CAPABILITIES = ("bpf", "chown", "net_admin", "perfmon", "setgid", "setuid")
_ERRNO, _ALLOW = 0x00050000, 0x7FFF0000
_MASKED_EQUAL = 7
_UNKNOWN = -1  # a system call that this machine's architecture lacks


class _Compare(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("mask", ctypes.c_uint64),
        ("value", ctypes.c_uint64),
    )


def command(profile: Path) -> list[str]:
    """What to put before a program, as root."""
    kept = ",".join(f"+{name}" for name in CAPABILITIES)
    capabilities = [f"--{kind}={sign}all,{kept}" for kind, sign in (("bounding-set", "-"), ("inh-caps", "-"))]
    return ["setpriv", "--no-new-privs", *capabilities, sys.executable, "-m", "tests.ship.confined", str(profile)]


def confine(profile: Path) -> None:
    """Let this process, and what it becomes, make the profile's system calls and no others."""
    library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    told: Any = json.loads(profile.read_text())
    filters = ctypes.c_void_p(library.seccomp_init(_ERRNO | told["defaultErrnoRet"]))
    assert filters
    for rule in told["syscalls"]:
        action = _ALLOW if rule["action"] == "SCMP_ACT_ALLOW" else _ERRNO | rule["errnoRet"]
        compared = [
            _Compare(each["index"], _MASKED_EQUAL, each["value"], each["valueTwo"]) for each in rule.get("args", ())
        ]
        for name in rule["names"]:
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number != _UNKNOWN:
                array = (_Compare * max(len(compared), 1))(*compared)
                assert not library.seccomp_rule_add_array(filters, action, number, len(compared), array), name
    assert not library.seccomp_load(filters)


if __name__ == "__main__":
    confine(Path(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
