"""Which interfaces are watched, from the kernel's own tables as text."""

import pytest

from common.errors import EnvironmentProblem, SettingsError
from producer.interfaces.selection import Links, Selection, choose, with_default_route

V4 = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth1\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
wlan0\t00000000\t010200C0\t0003\t0\t0\t600\t00000000\t0\t0\t0
"""
ANY = "0" * 32
V6 = f"""\
{ANY} 00 {ANY} 00 fe800000000000000000000000000001 00000400 1 0 00000003 wg0
20010db8{"0" * 24} 40 {ANY} 00 {ANY} 00000100 1 0 00000001 eth1
{ANY} 00 {ANY} 00 {ANY} ffffffff 1 0 00200200 lo
"""


def links(v4: str = V4, v6: str = V6) -> Links:
    return Links(names=("lo", "eth0", "eth1", "wlan0", "wg0"), routes_v4=v4.encode(), routes_v6=v6.encode())


def test_interfaces_with_a_default_route_of_either_kind_are_watched() -> None:
    assert with_default_route(links()) == ["eth0", "wlan0", "wg0"]


def test_a_route_by_an_interface_whose_name_is_no_text_is_one() -> None:
    odd = Links(
        names=("e\\xff\\xe3\\x80\\x80",), routes_v4=V4.encode().replace(b"eth0", b"e\xff\xe3\x80\x80"), routes_v6=b""
    )
    assert with_default_route(odd) == list(odd.names)


def test_those_that_are_named_are_watched_each_once() -> None:
    assert choose(["eth1", "lo", "eth1"], links()) == ("eth1", "lo")


def test_an_unknown_name_is_told_with_the_nearest() -> None:
    with pytest.raises(SettingsError, match=r"no interface eht0; did you mean eth0\?"):
        choose(["eht0"], links())


def test_an_unknown_name_like_no_other_is_told_with_all() -> None:
    with pytest.raises(SettingsError, match="this machine has: lo, eth0, eth1, wlan0, wg0"):
        choose(["zzzzzz"], links())


def test_without_a_default_route_the_interfaces_are_listed() -> None:
    with pytest.raises(EnvironmentProblem, match=r"name those to watch with --interface.*lo, eth0"):
        choose([], links("", ""))


@pytest.mark.parametrize(
    ("patterns", "name", "taken"),
    [
        ([], "eth0", True),
        ([], "eth1", False),
        (["auto"], "eth0", True),
        (["!eth0"], "eth0", False),
        (["!eth1"], "eth0", True),
        (["eth*"], "eth7", True),
        (["eth[12]"], "eth0", False),
        (["eth*", "!eth1"], "eth1", False),
        (["auto", "wlan?"], "wlan1", True),
        (["wlan?"], "eth0", False),
        (["*"], "blue/eth0", True),  # patterns without a slash do not speak of namespaces
        (["blue/*"], "blue/eth0", True),
        (["blue/*"], "red/eth0", False),
        (["*", "!*/eth0"], "blue/eth0", False),
        (["*/eth*", "!red/*"], "red/eth1", False),
    ],
)
def test_patterns_choose(patterns: list[str], name: str, taken: bool) -> None:
    assert Selection.of(patterns).takes(name, ["eth0"]) is taken


def test_the_loopback_interface_of_a_namespace_is_taken_only_when_asked_for() -> None:
    assert not Selection.of([]).takes("blue/lo", [], loopback=True)
    assert Selection.of(["blue/lo"]).takes("blue/lo", [], loopback=True)


def test_an_empty_name_is_refused() -> None:
    for patterns in ([""], ["!"]):
        with pytest.raises(SettingsError, match="empty"):
            Selection.of(patterns)


def test_a_glob_may_match_nothing_yet() -> None:
    assert choose(["veth*"], Links(names=("lo",), routes_v4=b"", routes_v6=b"")) == ()
