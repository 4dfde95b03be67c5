"""Where `ayaflow up` shows itself. terminal.py has the one for people."""

import sys


class Screen:
    """Without a terminal: the one line that programs wait for. Use it with `with`."""

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, *_: object) -> None:
        """End."""

    def draw(self) -> None:
        """Show the state as it is now."""

    def ready(self, url: str) -> None:
        """All parts are healthy for the first time."""
        sys.stdout.write(f"ready {url}\n")
        sys.stdout.flush()

    def say(self, note: str) -> None:
        """A sentence about what goes on."""
