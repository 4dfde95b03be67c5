"""A fence around this process, by the kernel (Landlock): it opens no files but its own, and connects to nobody.

What ClickHouse's grants leave open (functions, formats and settings that read a file or call a server) ends here,
for root too. Not before Linux 5.13 (files) and 6.7 (TCP); without it the grants and `access.py` stand alone.
"""

import ctypes
import os
import stat
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # of every architecture
_VERSION, _PATH_BENEATH, _NO_NEW_PRIVS = 1, 1, 38
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE, _IOCTL = 1, 2, 4, 8, 1 << 14, 1 << 15
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL  # the rest is for directories
_CONNECT_TCP = 2

_PROGRAMS = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime", "/dev/null", "/dev/urandom")
_PROCESS = ("maps", "status", "statm", "stat", "cgroup", "mountinfo", "mounts")
_MACHINE = (
    *(f"/proc/self/{name}" for name in _PROCESS),
    "/proc/self/task",  # a thread that may not read its schedstat throws, five times a query: a quarter of its CPU
    *(f"/proc/{name}" for name in ("meminfo", "cpuinfo", "stat", "loadavg", "uptime")),
    *("/sys/fs/cgroup", "/sys/devices/system", "/sys/kernel/mm"),
)
"""What ClickHouse asks of the machine."""


def close(own: Path) -> bool:
    """From now on this thread, and those it starts, write below `own` only -> whether the kernel can.

    They read below it, and what programs and libraries are made of. No file tells any more with what environment this
    process was started. Raises OSError.
    """
    _forget_environment()
    version = _LIBC.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION)
    if version < 1:
        return False
    # a right that the kernel does not know is an error: 13 rights at first, then one more with each of these
    rights = (1 << 13) - 1 | sum(
        right for since, right in ((2, 1 << 13), (3, 1 << 14), (5, 1 << 15)) if version >= since
    )
    attributes = struct.pack("QQ", rights, _CONNECT_TCP) if version >= 4 else struct.pack("Q", rights)
    rules = _checked(_LIBC.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0))
    try:
        _allow(rules, [own], rights)
        _allow(rules, _readable(), rights & _READ)
        _checked(_LIBC.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0))
        _checked(_LIBC.syscall(_RESTRICT_SELF, rules, 0))
    finally:
        os.close(rules)
    return True


def _forget_environment() -> None:
    """It has secrets, and each /proc/PID/task/TID/environ shows the octets where it was put at the start."""
    for name, value in os.environ.items():
        os.environ[name] = value  # a copy elsewhere, which libraries read
    begin, end = map(int, Path("/proc/self/stat").read_text().rpartition(")")[2].split()[47:49])
    if begin:
        ctypes.memset(begin, 0, end - begin)


def _readable() -> Iterable[Path]:
    packages = {
        Path(place)
        for name, module in list(sys.modules.items())
        if "." not in name
        for place in getattr(module, "__path__", ())
    }
    return {Path(sys.prefix), Path(sys.base_prefix), *packages, *map(Path, _PROGRAMS + _MACHINE)}


def _allow(rules: int, paths: Iterable[Path], rights: int) -> None:
    for path in paths:
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue  # not on this machine
        try:
            of_file = not stat.S_ISDIR(os.fstat(place).st_mode)
            rule = struct.pack("=Qi", rights & _OF_FILES if of_file else rights, place)
            _checked(_LIBC.syscall(_ADD_RULE, rules, _PATH_BENEATH, rule, 0))
        finally:
            os.close(place)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
