"""The pipe that gives ClickHouse the data of an INSERT; the reader is this test."""

import os
from collections.abc import Iterator

from deploy.local.clickhouse.feed import Feed


def breaking_off() -> Iterator[bytes]:
    yield b"half "
    yield b"of it"
    raise ConnectionResetError("the client went away")


def test_the_end_is_not_seen_before_the_statement_is_stopped() -> None:
    answers = [False, False, True]  # ClickHouse cannot stop it at once

    with Feed(breaking_off(), lambda: answers.pop(0)) as feed:
        reader = os.open(feed.path, os.O_RDONLY)
        try:
            data = b""
            while piece := os.read(reader, 100):
                data += piece
            assert answers == []
        finally:
            os.close(reader)
    assert data == b"half of it"
    assert isinstance(feed.error, ConnectionResetError)


def test_a_statement_that_ends_early_ends_the_feed() -> None:
    def kill() -> bool:
        raise AssertionError("nothing broke off")

    with Feed(iter([b"x" * (1 << 20)] * 3), kill) as feed:
        pass  # nobody reads
    assert feed.error is None
