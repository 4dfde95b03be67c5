import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streams.windowing.keys import KEY, WORDS, Keys, Names, chosen, group, hashes, words


def _keys(numbers: list[int]) -> Keys:
    keys = np.zeros(len(numbers), KEY)
    keys["src_port"] = np.array(numbers) % 7
    keys["node"] = np.array(numbers) // 7
    return keys


def test_a_key_is_56_bytes_without_holes() -> None:
    assert KEY.itemsize == 56
    assert WORDS == 7
    assert sum(KEY[name].itemsize for name in KEY.names or ()) == 56


@given(st.lists(st.integers(0, 40), max_size=80), st.booleans())
def test_groups_have_the_sums_of_a_dictionary_even_when_all_hashes_collide(numbers: list[int], collide: bool) -> None:
    keys = _keys(numbers)
    values = np.arange(len(numbers), dtype=np.int64)
    groups = group(keys, np.zeros(len(numbers), np.uint64) if collide else None)
    expected: dict[bytes, int] = {}
    for key, value in zip(keys, values, strict=True):
        expected[key.tobytes()] = expected.get(key.tobytes(), 0) + int(value)
    found = dict(zip([key.tobytes() for key in keys[groups.first_rows]], groups.total(values).tolist(), strict=True))
    assert found == expected


def test_sums_above_two_to_the_53_stay_exact() -> None:
    keys = _keys([1, 1, 2])
    groups = group(keys)
    assert sorted(groups.total(np.array([2**60, 1, 5])).tolist()) == [5, 2**60 + 1]


def test_every_field_of_a_key_changes_its_hash() -> None:
    base = np.zeros(1, KEY)
    seen = {int(hashes(base)[0])}
    for word in range(WORDS):
        other = base.copy()
        words(other)[0, word] = 1
        seen.add(int(hashes(other)[0]))
    assert len(seen) == WORDS + 1


def test_names_keep_their_numbers() -> None:
    names = Names[str]()
    assert [names.number(name) for name in ("a", "b", "a")] == [0, 1, 0]
    assert names.all() == ("a", "b")


def test_names_that_are_not_in_use_are_forgotten_and_their_numbers_used_again() -> None:
    names = Names[str](many=4)
    before = [names.number(name) for name in "abcd"]
    assert (before, names.crowded) == ([0, 1, 2, 3], True)
    given = names.all()
    names.keep(np.array([1, 3], np.uint32))
    assert (len(names), names.crowded, names.number("b")) == (2, False, 1)
    assert sorted(names.number(name) for name in "efg") == [0, 2, 4]
    assert given == ("a", "b", "c", "d")  # who has them goes on with them
    assert names.crowded


def test_the_names_that_are_used_are_chosen() -> None:
    numbers, names = chosen(np.array([5, 2, 5], np.uint32), ("a", "b", "c", "d", "e", "f"))
    assert (numbers.tolist(), names) == ([1, 0, 1], ("c", "f"))
    assert chosen(np.zeros(0, np.uint32), ("a",))[1] == ()
