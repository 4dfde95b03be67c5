"""The objects: the kernel program as clang compiled it when ayaflow was installed. setup.py runs this: all is Python's.

`python -m producer.kernel.load.objects` compiles those that are missing or old.

What decides about the layout of an event is compiled in, hence one object for each of these; how large the maps are,
which tunnels are opened and how much is copied, an object is told when it is loaded.
"""

import hashlib
import itertools
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from common.errors import DecodeError, EnvironmentProblem
from producer.kernel.load import elf

ROOT = Path(__file__).parents[3]
SOURCES = ROOT / "bpf"
"""The C program."""
OBJECTS = SOURCES / "objects"
"""What was compiled from it."""
_ALL_TUNNELS = 0b111110  # of enum tunnel_type
_MOST_COPIED = 2048  # of capture.inspect_bytes
_INSTRUCTIONS = "v2"  # of v3 the verifier took more than a million steps with three kinds of tunnels
_SECONDS = 300
INSTALL = "install clang, 14 or newer (sudo apt-get install clang), and run make setup"


def name(*, tunnels: bool, inspects: bool, replay: bool) -> str:
    """File name of the object of a program that opens tunnels or none, inspects payload or does not."""
    parts = ("tunnels",) * tunnels + ("inspect",) * inspects + ("replay",) * replay
    return "-".join(("ayaflow", *parts)) + ".o"


NAMES = tuple(
    name(tunnels=tunnels, inspects=inspects, replay=replay)
    for tunnels, inspects, replay in itertools.product((False, True), repeat=3)
)
"""Of all objects."""


def digest() -> bytes:
    """Of the C program."""
    found = hashlib.sha256()
    for path in sorted(SOURCES.glob("*.[ch]")):
        found.update(path.read_bytes())
    return found.digest()


def stamp() -> str:
    """What an object says that was compiled from the C program as it is now."""
    return digest().hex()


def build(into: Path = OBJECTS, clang: str = "clang") -> list[Path]:
    """Compile all -> the files. Raises EnvironmentProblem."""
    if shutil.which(clang) is None:
        raise EnvironmentProblem(f"there is no {clang}: {INSTALL}")
    into.mkdir(parents=True, exist_ok=True)
    return [_compiled(into / each, clang) for each in NAMES]


def are_current(folder: Path = OBJECTS) -> bool:
    """Whether all are there, compiled from the C program as it is now."""
    wanted = stamp()
    try:
        return all(elf.read((folder / each).read_bytes()).stamp == wanted for each in NAMES)
    except (OSError, DecodeError):
        return False


def _compiled(path: Path, clang: str) -> Path:
    machine = sysconfig.get_config_var("MULTIARCH") or f"{platform.machine()}-linux-gnu"  # where Debian has asm/
    tunnels, inspects, replay = (word in path.name for word in ("tunnels", "inspect", "replay"))
    flags = ["-target", "bpfel", f"-mcpu={_INSTRUCTIONS}", "-O2", f"-I/usr/include/{machine}", "-Wall", "-Werror"]
    flags += ["-Wno-unused-function", "-Wno-unused-const-variable", "-Wno-pointer-sign"]  # of maps, mostly
    flags += ["-DOBJECT", f'-DSTAMP="{stamp()}"', "-DFLOW_ENTRIES=0", *["-DREPLAY"] * replay]
    flags += [f"-DDECAPSULATE={_ALL_TUNNELS * tunnels}", f"-DINSPECT={_MOST_COPIED * inspects}"]
    command = [clang, *flags, "-c", str(SOURCES / "ayaflow.bpf.c"), "-o", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise EnvironmentProblem(f"{clang} took more than {_SECONDS} s for one object; run it again") from error
    if done.returncode:
        raise EnvironmentProblem(f"{clang} could not compile the kernel program: {done.stderr.strip()}")
    return path


def _main() -> int:
    try:
        if not are_current():
            build()
    except EnvironmentProblem as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(_main())
