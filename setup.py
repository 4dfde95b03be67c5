"""What pyproject.toml cannot say: the kernel program's objects are compiled together with the other C parts.

Without clang there are none, as without gcc the other parts have none: then bcc compiles on each node.
"""

import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT))

from common.errors import EnvironmentProblem  # noqa: E402  found there
from producer.kernel.load import objects  # noqa: E402


class Build(build_ext):
    """Also compiles the objects: into the checkout for an editable installation, else into the wheel."""

    def run(self) -> None:
        """See build_ext."""
        super().run()
        into = objects.OBJECTS if self.inplace else Path(self.build_lib) / objects.OBJECTS.relative_to(objects.ROOT)
        try:
            objects.build(into)
        except EnvironmentProblem as error:
            self.warn(f"the kernel program is not compiled beforehand: {error}")


setup(cmdclass={"build_ext": Build})
