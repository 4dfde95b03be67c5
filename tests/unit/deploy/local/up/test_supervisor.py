"""What starts, starts again and stops, and when; no process is started."""

import logging

import pytest

from common.errors import AyaflowError, EnvironmentProblem, ServiceUnavailable, SettingsError
from console.health import Verdict
from deploy.local.up.stages import LONGEST_PAUSE, PLANS, STOP_ORDER, State
from deploy.local.up.supervisor import HURRY_SECONDS, Supervisor
from deploy.local.up.testing import MemoryLauncher, MemoryProcess

WELL = Verdict(ok=True)
ALL = [plan.name for plan in PLANS]


class Setup:
    """A supervisor over processes in memory, and a clock that only sleeping moves."""

    def __init__(self, *, elsewhere: frozenset[str] = frozenset()) -> None:
        self.now = 0.0
        self.launcher = MemoryLauncher()
        self.verdicts: dict[str, Verdict] = {}
        self.drawn = 0
        plans = [plan for plan in PLANS if plan.name not in elsewhere]
        self.supervisor = Supervisor(
            plans, self.launcher, self.verdicts, elsewhere=elsewhere, clock=lambda: self.now, sleep=self.sleep
        )

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def draw(self) -> None:
        self.drawn += 1

    def step(self, seconds: float = 0.1) -> None:
        self.now += seconds
        self.supervisor.step()

    def all_ready(self) -> "Setup":
        while not self.supervisor.all_ready:
            self.step()
            self.verdicts |= {name: WELL for name, _ in self.launcher.started}
        return self

    def started(self) -> list[str]:
        return [name for name, _ in self.launcher.started]

    def dies(self, name: str, code: int) -> MemoryProcess:
        process = self.launcher.newest(name)
        process.code = code
        return process


@pytest.fixture
def setup() -> Setup:
    return Setup()


def test_a_stage_starts_when_what_it_needs_is_ready(setup: Setup) -> None:
    setup.step()
    assert setup.started() == ["kafka", "clickhouse", "console"]
    setup.verdicts["kafka"] = WELL
    setup.step()
    assert setup.started()[3:] == ["producer"]
    setup.verdicts["clickhouse"] = Verdict(ok=False, message="answers 500")
    setup.step()
    assert setup.supervisor.stages["clickhouse"].message == "answers 500"
    setup.verdicts["clickhouse"] = WELL
    setup.step()
    assert setup.started()[4:] == ["streams"]
    assert not setup.supervisor.all_ready
    setup.verdicts |= dict.fromkeys(("producer", "streams", "console"), WELL)
    setup.step()
    assert setup.supervisor.all_ready


def test_what_somebody_else_runs_is_waited_for_and_neither_started_nor_stopped() -> None:
    setup = Setup(elsewhere=frozenset({"kafka"}))
    setup.step()
    assert setup.started() == ["clickhouse", "console"]
    setup.verdicts["kafka"] = Verdict(ok=False)
    setup.step()
    assert "producer" not in setup.started()
    setup.verdicts["kafka"] = WELL
    setup.step()
    assert setup.started()[2:] == ["producer"]
    assert setup.supervisor.stop(lambda: False)
    assert "kafka" not in setup.supervisor.stages


@pytest.mark.parametrize(("code", "kind"), [(2, SettingsError), (3, EnvironmentProblem)])
def test_a_first_start_that_cannot_succeed_ends_all(setup: Setup, code: int, kind: type[AyaflowError]) -> None:
    setup.step()
    setup.launcher.words["kafka"] = "Kafka needs Java 17 or newer"
    setup.dies("kafka", code)
    with pytest.raises(kind, match="kafka cannot start: Kafka needs Java 17 or newer"):
        setup.step()
    assert setup.supervisor.stages["kafka"].state is State.STOPPED
    assert setup.supervisor.stop(lambda: False)  # the others


def test_one_that_ends_without_a_word_is_told_by_its_code(setup: Setup) -> None:
    setup.step()
    setup.dies("kafka", 3)
    with pytest.raises(EnvironmentProblem, match="it ended with code 3"):
        setup.step()


def test_one_that_dies_starts_again_after_pauses_that_grow(setup: Setup) -> None:
    setup.all_ready()
    pauses = []
    for _ in range(7):
        setup.dies("streams", 4)
        setup.step()
        died, before = setup.now, len(setup.launcher.started)
        assert setup.supervisor.stages["streams"].state is State.WAITING
        while len(setup.launcher.started) == before:
            setup.step()
        pauses.append(round(setup.now - died))
    assert pauses == [1, 2, 4, 8, 16, LONGEST_PAUSE, LONGEST_PAUSE]
    assert setup.supervisor.stages["streams"].restarts == 7
    assert setup.started().count("kafka") == 1


def test_what_an_earlier_process_said_does_not_make_the_next_one_ready(setup: Setup) -> None:
    setup.all_ready()
    setup.dies("streams", 4)
    for _ in range(20):
        setup.step()
    assert setup.supervisor.stages["streams"].state is State.STARTING
    assert setup.supervisor.pid("streams") == setup.launcher.newest("streams").pid
    setup.verdicts["streams"] = WELL
    setup.step()
    assert setup.supervisor.all_ready


def test_a_process_that_has_ended_has_no_pid(setup: Setup) -> None:
    assert setup.supervisor.pid("kafka") is None
    setup.step()
    assert setup.supervisor.pid("kafka") == setup.launcher.newest("kafka").pid
    setup.dies("kafka", -9)
    assert setup.supervisor.pid("kafka") is None


def test_all_stop_in_the_order_of_the_packets(setup: Setup) -> None:
    setup.all_ready()
    order: list[str] = []

    def draw() -> None:
        stopping = next(one.plan.name for one in setup.supervisor.stages.values() if one.state is State.STOPPING)
        if stopping not in order:
            order.append(stopping)
        setup.launcher.newest(stopping).code = 0

    for _, process in setup.launcher.started:
        process.answer = None
    assert setup.supervisor.stop(lambda: False, draw)
    assert order == list(STOP_ORDER)
    assert {stage.state for stage in setup.supervisor.stages.values()} == {State.STOPPED}
    assert all(process.asked == 1 and process.killed for _, process in setup.launcher.started)  # and what they left
    assert setup.launcher.detaches == 0


def test_one_that_does_not_stop_is_killed_in_its_time_and_the_others_stop_as_ever(setup: Setup) -> None:
    setup.launcher.answers["streams"] = None
    setup.all_ready()
    began = setup.now
    assert not setup.supervisor.stop(lambda: False, setup.draw)
    patience = next(plan.stop_seconds for plan in PLANS if plan.name == "streams")
    assert patience < setup.now - began < patience + 1
    assert setup.launcher.newest("streams").code == -9
    assert [setup.launcher.newest(name).code for name in ALL if name != "streams"] == [0, 0, 0, 0]
    assert setup.drawn > 1
    assert setup.launcher.detaches == 0


def test_in_a_hurry_it_is_killed_sooner(setup: Setup) -> None:
    setup.launcher.answers |= {"kafka": None, "streams": None}
    setup.all_ready()
    began = setup.now
    assert not setup.supervisor.stop(lambda: setup.now > began + 1)
    assert 2 * HURRY_SECONDS < setup.now - began < 2 * HURRY_SECONDS + 1


@pytest.mark.parametrize(("code", "said"), [(0, "detached"), (None, "not detached")])
def test_of_a_producer_that_was_killed_the_kernel_is_cleaned(
    setup: Setup, caplog: pytest.LogCaptureFixture, code: int | None, said: str
) -> None:
    setup.launcher.answers["producer"] = None
    setup.launcher.detached = code
    setup.all_ready()
    with caplog.at_level(logging.INFO, "ayaflow"):
        assert not setup.supervisor.stop(lambda: True)
    assert setup.launcher.detaches == 1
    assert said in [record.message for record in caplog.records]


@pytest.mark.parametrize("code", [1, -15])
def test_an_end_that_is_not_clean_is_told(setup: Setup, code: int) -> None:
    setup.launcher.answers["console"] = code
    setup.all_ready()
    assert not setup.supervisor.stop(lambda: False)


def test_one_that_died_just_before_is_not_asked_to_stop(setup: Setup) -> None:
    setup.all_ready()
    process = setup.dies("console", 4)
    assert not setup.supervisor.stop(lambda: False)
    assert process.asked == 0


def test_what_never_started_is_stopped_too(setup: Setup) -> None:
    assert setup.supervisor.stop(lambda: False)
    assert {stage.state for stage in setup.supervisor.stages.values()} == {State.STOPPED}


def test_a_death_later_on_is_no_reason_to_give_up(setup: Setup) -> None:
    setup.all_ready()
    setup.dies("producer", 3)
    try:
        setup.step()
    except (EnvironmentProblem, ServiceUnavailable) as error:
        pytest.fail(str(error))
    assert setup.supervisor.stages["producer"].state is State.WAITING
