"""Who makes the kernel program: bcc, here and now, or clang, beforehand."""

from pathlib import Path

from producer.kernel import environment
from producer.kernel.load import by_object, objects


def chosen(loader: str, folder: Path = objects.OBJECTS) -> str:
    """`bcc` or `object`. `loader`: capture.loader; auto is the object where one was made, since that needs least.

    One that was made and cannot be used is told, not passed over: who reads the log should know what runs.
    Raises EnvironmentProblem.
    """
    if loader == "bcc" or (loader == "auto" and not any(folder.glob("*.o"))):
        return "bcc"
    for name in objects.NAMES:
        by_object.read(folder / name)
    return "object"


def check(loader: str) -> None:
    """Raise EnvironmentProblem unless the program can be made."""
    if chosen(loader) == "bcc":
        environment.check_headers()


def described(loader: str) -> str:
    """What makes it, for `doctor`. Raises EnvironmentProblem."""
    if chosen(loader) == "object":
        return f"an object that was compiled beforehand, of the sources {objects.stamp()[:12]}"
    version = environment.bcc_version()
    environment.check_headers()
    return f"compiled by bcc {version}, with the kernel headers that were found"
