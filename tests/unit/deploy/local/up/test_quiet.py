"""Who has no packets is told so once, and when they come it is over."""

from deploy.local.up.quiet import QUIET_SECONDS, SAID, Quiet


def test_it_is_said_once_that_nothing_passes_and_taken_back_when_something_does() -> None:
    quiet = Quiet()
    assert quiet.look(None, 0) is None  # the producer does not answer yet
    assert quiet.look(0, 10) is None
    assert quiet.look(0, 10 + QUIET_SECONDS - 0.1) is None
    assert quiet.look(0, 10 + QUIET_SECONDS) == SAID
    assert quiet.look(0, 11 + QUIET_SECONDS) is None
    assert quiet.look(5, 12 + QUIET_SECONDS) == ""
    assert quiet.look(6, 13 + QUIET_SECONDS) is None
    assert quiet.look(6, 13 + 2 * QUIET_SECONDS) == SAID


def test_a_producer_that_does_not_answer_is_no_quiet_machine() -> None:
    quiet = Quiet()
    quiet.look(7, 0)
    assert quiet.look(None, QUIET_SECONDS) is None
    assert quiet.look(8, 2 * QUIET_SECONDS) is None
