"""Objects that clang made: what is read of them, and what is said of those that are missing, damaged or old."""

import shutil
import struct
from pathlib import Path

import pytest

from common.errors import DecodeError, EnvironmentProblem
from producer.kernel import pins
from producer.kernel.abi import structs
from producer.kernel.load import by_object, choice, elf, objects
from tests.lacking import cannot_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With all objects, compiled now: from the sources as they are."""
    if shutil.which("clang") is None:
        cannot_run("clang is not installed; run make setup-test")
    path = tmp_path_factory.mktemp("objects")
    objects.build(path)
    return path


@pytest.mark.parametrize("tunnels", [False, True])
@pytest.mark.parametrize("inspects", [False, True])
def test_maps_have_the_sizes_that_python_reads(folder: Path, tunnels: bool, inspects: bool) -> None:
    found = by_object.read(folder / objects.name(tunnels=tunnels, inspects=inspects, replay=False))
    maps = {each.name: each for each in found.maps}
    types = structs(tunnels=tunnels, inspects=inspects)
    for name, struct_name in {
        "counters_a": "counters",
        "flows_b": "coalesced",
        "interfaces": "interface",
        "config": "config",
        "state": "state",
    }.items():
        assert maps[name].value_bytes == types[struct_name].itemsize
    assert maps["flows_a"].key_bytes == types["coalesced_key"].itemsize
    assert maps["open_epoch"].inner == "counters_a"
    assert maps["events"].kind == "ringbuf"
    wanted = {*pins.MAPS, *([pins.COPIES] if inspects else [])}
    assert wanted <= maps.keys()
    assert {f"ayaflow_{name}" for name in pins.PROGRAMS} == found.programs.keys()
    numbers = ({"opened_tunnels"} if tunnels else set()) | ({"copied_bytes"} if inspects else set())
    places = {name for program in found.programs.values() for name in program.places.values()}
    assert places - maps.keys() == numbers


def test_descriptors_and_numbers_come_into_the_instructions() -> None:
    load = struct.pack("<BBhi", 0x18, 3, 0, 0) + bytes(8)
    program = elf.Program(name="p", code=load * 2, places={0: "events", 16: "copied_bytes"})
    linked = program.linked({"events": 77}, {"copied_bytes": 2048})
    assert struct.unpack_from("<BBhi", linked, 0) == (0x18, 0x13, 0, 77)  # BPF_PSEUDO_MAP_FD
    assert struct.unpack_from("<BBhi", linked, 16) == (0x18, 0x03, 0, 2048)
    with pytest.raises(DecodeError, match="wants 'events'"):
        program.linked({}, {"copied_bytes": 1})


def test_a_damaged_object_is_told_wherever_it_is_cut(folder: Path, tmp_path: Path) -> None:
    whole = (folder / objects.NAMES[0]).read_bytes()
    path = tmp_path / "cut.o"
    for octets in (b"", whole[:3], b"MZ" + whole[2:], *(whole[: len(whole) * part // 16] for part in range(1, 16))):
        path.write_bytes(octets)
        with pytest.raises(EnvironmentProblem, match=r"cut\.o: .*make setup"):
            by_object.read(path)


def test_an_object_of_other_sources_is_not_loaded(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "old.o"
    path.write_bytes((folder / objects.NAMES[0]).read_bytes().replace(objects.stamp().encode(), b"0" * 64))
    with pytest.raises(EnvironmentProblem, match=r"compiled from other sources.*make setup"):
        by_object.read(path)
    assert objects.are_current(folder)
    assert not objects.are_current(tmp_path)


def test_who_makes_the_program_is_the_settings_choice(folder: Path, tmp_path: Path) -> None:
    assert choice.chosen("bcc", folder) == "bcc"
    assert choice.chosen("object", folder) == "object"
    assert choice.chosen("auto", folder) == "object"
    assert choice.chosen("auto", tmp_path) == "bcc"  # none was made
    with pytest.raises(EnvironmentProblem, match=r"No such file.*clang.*capture\.loader to bcc"):
        choice.chosen("object", tmp_path)


def test_auto_does_not_pass_over_an_object_that_is_damaged(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / objects.NAMES[-1]).write_bytes(b"")
    with pytest.raises(EnvironmentProblem, match=r"make setup"):
        choice.chosen("auto", tmp_path)


def test_without_clang_nothing_is_compiled_and_it_is_said_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="there is no no-such-clang: install clang"):
        objects.build(tmp_path, clang="no-such-clang")
    assert not list(tmp_path.iterdir())
