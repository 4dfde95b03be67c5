"""What programs of others import: `ayaflow.consume`."""

from pathlib import Path

import common
import schemas

for _package in (common, schemas):  # short names, which others may have too: docs/decisions/0016
    if Path(_package.__file__ or "").parents[1] != Path(__file__).parents[1]:
        raise ImportError(
            f"{_package.__file__} hides the package {_package.__name__} of ayaflow: rename it, or run the program "
            "where it is not on sys.path"
        )
