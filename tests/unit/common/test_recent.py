from common.recent import Recent


def test_the_least_recently_used_are_forgotten() -> None:
    recent = Recent[str, int](3)
    assert [recent.use(name, number) for number, name in enumerate("abc")] == [[], [], []]
    recent.use("a", 4)
    assert recent.use("d", 5) == [("b", 1)]
    assert recent.oldest() == ("c", 2)
    assert list(recent.newest_first()) == [("d", 5), ("a", 4), ("c", 2)]
    assert recent.get("c") == 2  # that is no use
    assert recent.use("e", 6) == [("c", 2)]
    assert (recent.forget("a"), recent.forget("a"), recent.get("b"), len(recent)) == (4, None, None, 2)
    assert recent.items() == [("d", 5), ("e", 6)]


def test_of_a_hundred_thousand_names_the_last_are_there() -> None:
    recent = Recent[int, None](100)
    for name in range(100_000):
        recent.use(name, None)
    assert len(recent) == 100
    assert recent.oldest() == (99_900, None)
