"""Opens a capture of any kind that we know."""

from collections.abc import Callable, Iterator

from common.stopping import Stop
from producer.replay.files import pcap, pcapng
from producer.replay.files.frames import Frames
from producer.replay.files.source import Source, stem

_OTHER_COMPRESSIONS = {b"\xfd7zX": "xz", b"BZh": "bzip2", b"\x04\x22\x4d\x18": "lz4", b"PK\x03\x04": "zip"}


def read(
    path: str,
    tell: Callable[[int], None] = lambda _octets: None,
    *,
    interface: str | None = None,
    stop: Stop | None = None,
) -> Iterator[Frames]:
    """The frames of a capture, `-`: of standard input. `tell` is called with each number of octets read of the file.

    `interface` is that of frames of which the capture does not name one; None: the file's name without endings. `stop`
    ends a read that waits for a pipe.

    Raises SettingsError when there is no such file, BrokenCaptureError where it cannot be read on.
    """
    source, base = Source(path, tell, stop), interface or stem(path)
    try:
        while len(source.data) < 4:
            if not source.more(0):
                what = "ends in its first number" if source.data else "is empty: it ends"
                raise source.broken(len(source.data), what)
        magic = bytes(source.data[:4])
        if magic in pcap.MAGICS:
            yield from pcap.read(source, base)
        elif magic == pcapng.MAGIC:
            yield from pcapng.read(source, base)
        else:
            for begin, program in _OTHER_COMPRESSIONS.items():
                if magic.startswith(begin):
                    raise source.broken(0, f"is compressed by {program}, which is not read: decompress it first;")
            raise source.broken(0, f"is neither pcap nor pcapng (it begins with {magic.hex(' ')})")
    finally:
        source.close()
