"""Blocks of packets: the same wherever reading begins, and nothing of them is acknowledged before it is stored."""

import random

from streams.partition.blocks import MOST_WAITING, Block, Blocks
from tests.unit.streams.batches import SECOND, STRIDE, Packet, batch

Log = list[tuple[int, float, int]]  # offset, when Kafka took it, packets


def log_of(seed: int) -> Log:
    r = random.Random(seed)
    found, offset, stamp = [], 7, 1_000.0
    for _ in range(200):
        found.append((offset, stamp, r.randint(0, 3)))
        offset += r.choice((1, 1, 5))
        stamp += r.choice((0, 0.1, 0.4, 2.5))
    return found


def take(blocks: Blocks, message: tuple[int, float, int]) -> None:
    offset, stamp, packets = message
    made = batch([Packet(time_ns=SECOND + n) for n in range(packets)], ring_start=offset * STRIDE)
    blocks.add(offset, made, 0, stamp)


def all_ready(blocks: Blocks) -> list[Block]:
    found = []
    while block := blocks.ready():
        found.append(block)
        blocks.stored(block)
    return found


def test_who_reads_on_makes_the_same_blocks() -> None:
    for seed in range(50):
        r, log = random.Random(seed), log_of(seed)
        whole = Blocks()
        for message in log:
            take(whole, message)
        want = {block.second: block for block in all_ready(whole)}
        assert len(want) > 20
        stored: dict[int, Block] = {}
        resume, starts = log[0][0], 0
        while True:
            starts += 1
            blocks, killed = Blocks(), r.randint(0, len(log)) if starts < 5 else len(log) + 1
            for n, message in enumerate(each for each in log if each[0] >= resume):
                if n == killed:
                    break
                take(blocks, message)
                if r.random() < 0.5:
                    for block in all_ready(blocks):
                        stored.setdefault(block.second, block)
                    # streams may acknowledge less than that: whoever reads on may see the end of a stored block
                    lowest = min([*blocks.needed(), message[0] + 1])
                    resume = max(resume, lowest - r.choice((0, 0, 3)))
            else:
                for block in all_ready(blocks):
                    stored.setdefault(block.second, block)
                break
        assert stored.keys() == want.keys(), f"seed {seed}"
        for second, block in stored.items():
            assert block.first_offset == want[second].first_offset, f"seed {seed}"
            assert [len(part.batch) for part in block.parts] == [len(part.batch) for part in want[second].parts]


def test_what_is_not_stored_is_needed_and_too_much_is_told() -> None:
    blocks = Blocks()
    assert list(blocks.needed()) == []
    take(blocks, (3, 10.0, 2))
    take(blocks, (4, 10.9, 2))
    assert blocks.ready() is None
    assert list(blocks.needed()) == [3]
    for n in range(MOST_WAITING):
        assert not blocks.crowded
        take(blocks, (5 + n, 11.0 + n, 1))
    assert blocks.crowded
    assert min(blocks.needed()) == 3
    first = blocks.ready()
    assert first
    assert [len(part.batch) for part in first.parts] == [2, 2]
    blocks.stored(first)
    assert min(blocks.needed()) == 5


def test_what_was_seen_before_is_left_out() -> None:
    blocks = Blocks()
    made = batch([Packet(time_ns=SECOND), Packet(time_ns=SECOND + 1)])
    blocks.add(1, made, 2, 10.0)
    assert list(blocks.needed()) == []
    blocks.add(2, made, 1, 10.0)
    blocks.add(3, made, 0, 12.0)
    block = blocks.ready()
    assert block
    assert [(part.begin, len(part.batch)) for part in block.parts] == [(1, 2)]
