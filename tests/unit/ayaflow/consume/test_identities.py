from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ayaflow.consume import identities
from ayaflow.consume.identities import Seen, Sets, Tables, of_texts

KINDS = pytest.mark.parametrize("kind", [Tables, Sets])
CHUNKS = st.lists(st.lists(st.integers(0, 12), max_size=9), max_size=12)


def array(numbers: list[int]) -> identities.Identities:
    return np.array([[number // 3, 1 + number % 3] for number in numbers], np.uint64).reshape(-1, 2)


@KINDS
@given(CHUNKS, st.integers(1, 6))
def test_what_came_is_known_for_as_long_as_promised_and_what_did_not_is_new(
    kind: Callable[[int], Seen], chunks: list[list[int]], most: int
) -> None:
    seen, entered = kind(most), list[int]()
    for chunk in chunks:
        for number, fresh in zip(chunk, seen.fresh(array(chunk)).tolist(), strict=True):
            if number not in entered:
                assert fresh, "it never came"
            if number in entered[-most:]:
                assert not fresh, "it is among the last"
            if fresh:
                entered.append(number)


@KINDS
def test_many_are_known_and_in_bounded_memory(kind: Callable[[int], Seen]) -> None:
    rng = np.random.default_rng(1)
    many = rng.integers(0, 2**64, (50_000, 2), np.uint64)
    seen = kind(20_000)
    assert seen.fresh(many).all()
    assert not seen.fresh(many[-20_000:]).any()
    assert seen.fresh(many[:10_000]).all(), "the first are forgotten"


def test_a_table_takes_no_more_than_is_said() -> None:
    seen = Tables(1 << 14)
    for part in np.split(np.random.default_rng(2).integers(0, 2**64, (1 << 17, 2), np.uint64), 32):
        seen.fresh(part)
    assert seen._young.nbytes + seen._old.nbytes <= 2 * 2 * 16 * (1 << 14)


@KINDS
def test_an_identity_of_zeros_is_one_like_others(kind: Callable[[int], Seen]) -> None:
    zeros = np.zeros((2, 2), np.uint64)
    assert kind(5).fresh(zeros).tolist() == [True, False]


@given(st.lists(st.text(max_size=40)))
def test_texts_that_are_no_identity_of_ours_are_told_apart(texts: list[str]) -> None:
    found = [tuple(each) for each in of_texts(pa.array(texts, pa.string())).tolist()]
    assert len({*found}) == len({*texts})


@given(st.lists(st.binary(min_size=16, max_size=16), min_size=1), st.integers(0, 3))
def test_identities_are_what_their_digits_say(octets: list[bytes], begin: int) -> None:
    texts = pa.array([each.hex() for each in octets])
    assert of_texts(texts[begin:]).tobytes() == b"".join(octets[begin:])
    mixed = pa.concat_arrays([texts, pa.array(["other", "g" * 32])])
    assert of_texts(mixed)[: len(octets)].tobytes() == b"".join(octets)


def test_without_anything_compiled_sets_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(identities.seen(1), Tables)
    monkeypatch.setattr(identities, "_enter", None)
    assert isinstance(identities.seen(1), Sets)
