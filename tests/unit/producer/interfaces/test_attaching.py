"""What the kernel's refusals mean to people."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from producer.interfaces.attach.attaching import refused
from producer.interfaces.attach.hook import FAILED, GONE, Hook, Outcome

HOOK = Hook(slot=3, ifindex=7, name="blue/eth0", namespace="/run/netns/blue")


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.EPERM, "Operation not permitted; run as root, or give CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON"),
        (errno.EACCES, "Permission denied; run as root"),
        (errno.ERANGE, "63 TCX programs are there, which is the most; remove some"),
        (errno.ENOSPC, "remove some"),
        (errno.E2BIG, "remove some"),
        (errno.EOPNOTSUPP, "it needs CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF"),
        (errno.ENOENT, "it needs CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF"),
        (errno.EEXIST, "somebody has just attached"),
        (errno.ENOMEM, "free some"),
        (errno.EIO, "cannot attach to blue/eth0: Input/output error"),
    ],
)
def test_a_refusal_names_the_interface_and_what_to_do(code: int, advice: str) -> None:
    outcome = refused(HOOK, OSError(code, "…"), "attach to")
    assert (outcome.slot, outcome.state) == (3, FAILED)
    assert outcome.error.startswith("cannot attach to blue/eth0: ")
    assert advice in outcome.error


@pytest.mark.parametrize("code", [errno.ENODEV, errno.ENXIO])
def test_an_interface_that_goes_meanwhile_is_no_refusal(code: int) -> None:
    assert refused(HOOK, OSError(code, "…"), "attach to") == Outcome(slot=3, state=GONE)


def test_pyroute2_is_loaded_by_who_finds_a_qdisc_for_filters_and_by_no_other() -> None:
    code = "import sys; from producer.interfaces.attach import attaching; print('pyroute2' in sys.modules)"
    root = Path(__file__).parents[4]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
