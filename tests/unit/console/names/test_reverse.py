"""Reverse DNS against real servers on loopback that are silent, slow, wrong or many-tongued."""

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import dns.message
import pytest

from common.settings import NamesSettings
from common.settings.names import server
from console.names import reverse
from console.names.reverse import ReverseNames, system_servers
from tests.unit.console.names.servers import nothing, ptr, serving
from tests.waiting import HANG_SECONDS


def names(*servers: str, clock: Callable[[], float] = time.monotonic) -> ReverseNames:
    return ReverseNames(NamesSettings(reverse=True, reverse_servers=list(servers)), clock=clock)


def until(found: Callable[[], object]) -> None:
    deadline = time.monotonic() + HANG_SECONDS
    while not found():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.005)


def instantly(resolver: ReverseNames, address: str) -> str:
    began = time.perf_counter()
    name = resolver.name(address)
    assert time.perf_counter() - began < 1.8  # a thread that waited for a server would have taken 2
    return name


def test_a_name_is_there_a_moment_later_and_asked_for_once() -> None:
    with (
        serving(lambda question: [ptr(question, "Host.Example.").to_wire()]) as dns_server,
        names(dns_server.at) as asked,
    ):
        assert instantly(asked, "192.0.2.7") == ""
        until(lambda: asked.name("192.0.2.7") == "host.example")
        assert dns_server.asked == ["7.2.0.192.in-addr.arpa."]
        assert asked.counts == {"found": 1, "absent": 0, "failed": 0, "left_out": 0}


def test_a_server_of_ipv6_is_asked_for_addresses_of_ipv6() -> None:
    with (
        serving(lambda question: [ptr(question, "six.example.").to_wire()], socket.AF_INET6) as dns_server,
        names(dns_server.at) as asked,
    ):
        until(lambda: asked.name("2001:db8::7") == "six.example")


def test_an_answer_is_asked_for_again_after_its_time_and_shown_until_then() -> None:
    now, called = [1_000.0], ["old.example."]
    with (
        serving(lambda question: [ptr(question, *called, ttl=120).to_wire()]) as dns_server,
        names(dns_server.at, clock=lambda: now[0]) as asked,
    ):
        until(lambda: asked.name("192.0.2.7") == "old.example")
        now[0], called[0] = 1_119.0, "new.example."
        assert asked.name("192.0.2.7") == "old.example"
        now[0] = 1_121.0
        assert asked.name("192.0.2.7") == "old.example"
        until(lambda: asked.name("192.0.2.7") == "new.example")
        assert len(dns_server.asked) == 2


def test_that_there_is_no_name_is_remembered() -> None:
    with serving(lambda question: [ptr(question).to_wire()]) as dns_server, names(dns_server.at) as asked:
        asked.name("192.0.2.7")
        until(lambda: asked.counts["absent"])
        for _ in range(100):
            assert asked.name("192.0.2.7") == ""
        assert len(dns_server.asked) == 1


def test_a_silent_server_costs_names_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reverse, "SECONDS", 0.2)
    with serving(nothing) as dns_server, names(dns_server.at) as asked:
        began = time.perf_counter()
        for number in range(200):
            assert asked.name(f"192.0.2.{number}") == ""
        until(lambda: asked.counts["failed"])
    assert time.perf_counter() - began < 20  # half of what it takes to wait for each answer; nor does the end wait
    assert dns_server.asked


def test_a_server_that_is_not_there_is_passed_over_for_the_next() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{gone.getsockname()[1]}"
    with (
        serving(lambda question: [ptr(question, "host.example.").to_wire()]) as dns_server,
        names(nobody, dns_server.at) as asked,
    ):
        until(lambda: asked.name("192.0.2.7") == "host.example")


def test_a_slow_server_gives_its_name_late_and_holds_nobody_up() -> None:
    def slowly(question: dns.message.Message) -> list[bytes]:
        time.sleep(0.3)
        return [ptr(question, "late.example.").to_wire()]

    with serving(slowly) as dns_server, names(dns_server.at) as asked:
        began = time.monotonic()
        while not asked.name("192.0.2.7"):
            assert instantly(asked, "192.0.2.7") in {"", "late.example"}
            assert time.monotonic() - began < HANG_SECONDS
        assert time.monotonic() - began >= 0.3


def test_a_liar_gives_no_name_and_the_right_answer_behind_lies_counts() -> None:
    def lying(question: dns.message.Message) -> list[bytes]:
        wrong = ptr(question, "liar.example.")
        wrong.id ^= 0x5555
        return [b"\xc0\x0c" * 100, b"", question.to_wire(), wrong.to_wire(), ptr(question, "true.example.").to_wire()]

    def only_lying(question: dns.message.Message) -> list[bytes]:
        return lying(question)[:-1] * 10

    with serving(lying) as dns_server, names(dns_server.at) as asked:
        until(lambda: asked.name("192.0.2.7") == "true.example")
    with serving(only_lying) as dns_server, names(dns_server.at) as asked:
        asked.name("192.0.2.7")
        until(lambda: asked.counts["failed"])  # at once: a few datagrams are looked at, then no more
        assert asked.name("192.0.2.7") == ""


def test_twelve_megabytes_are_not_read() -> None:
    many = [b"\0" * 65_507] * 183

    def flood(question: dns.message.Message) -> list[bytes]:
        head = question.id.to_bytes(2, "big")
        return [head + each[2:] for each in many]

    with serving(flood) as dns_server, names(dns_server.at) as asked:
        began = time.process_time()
        assert instantly(asked, "192.0.2.7") == ""
        until(lambda: asked.counts["failed"] + asked.counts["absent"])
        assert asked.name("192.0.2.7") == ""
        assert time.process_time() - began < 2  # with what the server of the test takes to send it


def test_more_addresses_than_may_wait_are_left_out_and_counted() -> None:
    with serving(nothing) as dns_server, names(dns_server.at) as asked:
        for number in range(reverse.WAITING + 500):
            asked.name(f"10.0.{number // 250}.{number % 250 + 1}")
        assert asked.counts["left_out"] >= 400
        time.sleep(0.3)
        assert len(dns_server.asked) <= reverse.AT_A_TIME


def test_questions_are_paced() -> None:
    with (
        serving(lambda question: [ptr(question, "host.example.").to_wire()]) as dns_server,
        names(dns_server.at) as asked,
    ):
        began = time.monotonic()
        for number in range(60):
            asked.name(f"10.0.0.{number + 1}")
        until(lambda: asked.counts["found"] == 60)
        assert time.monotonic() - began >= 0.55


def test_nobody_is_asked_for_addresses_that_have_no_name() -> None:
    with serving(nothing) as dns_server, names(dns_server.at) as asked:
        for address in ("", "nonsense", "127.0.0.1", "::1", "224.0.0.251", "ff02::fb", "fe80::1", "0.0.0.0", "::"):
            assert asked.name(address) == ""
        time.sleep(0.1)
        assert not dns_server.asked


def test_after_its_end_nothing_is_asked_and_no_thread_is_left() -> None:
    with serving(nothing) as dns_server, names(dns_server.at) as asked:
        pass
    assert asked.name("192.0.2.7") == ""
    assert not [thread for thread in threading.enumerate() if thread.name == "reverse-dns"]


def test_the_servers_of_the_system_are_those_of_resolv_conf(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    assert system_servers(path) == []
    path.write_text(
        "# mine\nnameserver 192.0.2.53\noptions edns0\nnameserver fe80::1%eth0\nnameserver gateway\nnameserver\n"
    )
    assert system_servers(path) == [("192.0.2.53", 53), ("fe80::1%eth0", 53)]


def test_a_server_is_given_by_its_address() -> None:
    assert server("192.0.2.53") == ("192.0.2.53", 53)
    assert server("2001:db8::53") == ("2001:db8::53", 53)
    assert server("[2001:db8::53]:5353") == ("2001:db8::53", 5353)
    for text in ("dns.example", "", "192.0.2.53:99999", "http://192.0.2.53"):
        with pytest.raises(ValueError, match=r"192\.0\.2\.53"):
            server(text)
