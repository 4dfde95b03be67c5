"""What a device's packets begin with."""

import pytest

from producer.interfaces.link_types import link_flags
from producer.kernel.abi import NO_ETHERNET, UNKNOWN_LINK


@pytest.mark.parametrize(
    ("link_type", "flags"),
    [
        pytest.param(1, 0, id="ether"),
        pytest.param(772, 0, id="loopback"),
        pytest.param(65534, NO_ETHERNET, id="tun"),
        pytest.param(512, NO_ETHERNET, id="ppp"),
        pytest.param(256, NO_ETHERNET, id="slip"),
        pytest.param(768, NO_ETHERNET, id="ipip"),
        pytest.param(778, NO_ETHERNET, id="gre"),
        pytest.param(823, NO_ETHERNET, id="ip6gre"),
        pytest.param(32, UNKNOWN_LINK, id="infiniband"),
        pytest.param(804, UNKNOWN_LINK, id="ieee802.15.4"),
        pytest.param(280, UNKNOWN_LINK, id="can"),
        pytest.param(824, UNKNOWN_LINK, id="netlink"),
        pytest.param(803, UNKNOWN_LINK, id="wlan monitor"),
        pytest.param(60000, UNKNOWN_LINK, id="not invented yet"),
    ],
)
def test_only_what_is_known_is_parsed(link_type: int, flags: int) -> None:
    assert link_flags(link_type) == flags
