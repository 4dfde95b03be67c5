"""Opens a capture of any kind that we know."""

from collections.abc import Callable, Iterator

from producer.replay.files import pcap, pcapng
from producer.replay.files.frames import Frames
from producer.replay.files.source import Source


def read(path: str, tell: Callable[[int], None] = lambda _octets: None) -> Iterator[Frames]:
    """The frames of a capture, `-`: of standard input. `tell` is called with each number of octets read of the file.

    Raises SettingsError when there is no such file, BrokenCaptureError where it cannot be read on.
    """
    source = Source(path, tell)
    try:
        while len(source.data) < 4:
            if not source.more(0):
                what = "ends in its first number" if source.data else "is empty: it ends"
                raise source.broken(len(source.data), what)
        magic = bytes(source.data[:4])
        if magic in pcap.MAGICS:
            yield from pcap.read(source, path)
        elif magic == pcapng.MAGIC:
            yield from pcapng.read(source, path)
        else:
            raise source.broken(0, f"is neither pcap nor pcapng (it begins with {magic.hex(' ')})")
    finally:
        source.close()
