"""Where this code is, and the files beside it that the stack reads.

In a checkout they are where people look for them; the wheel carries copies below this package, see pyproject.toml.
"""

import os
from collections.abc import Mapping
from pathlib import Path

CODE = Path(__file__).resolve().parents[3]
SHIPPED = Path(__file__).resolve().parent / "shipped"


def resource(path: str) -> Path:
    """The file that a checkout has at `path`."""
    shipped = SHIPPED / path
    return shipped if shipped.is_file() else CODE / path


def python_path(environment: Mapping[str, str]) -> dict[str, str]:
    """The variable with which another Python imports this code and no other of the same name, if it needs one.

    Installed code is found without it, unless the caller's own PYTHONPATH comes first.
    """
    given = environment.get("PYTHONPATH")
    if SHIPPED.is_dir() and not given:
        return {}
    return {"PYTHONPATH": os.pathsep.join([str(CODE), *([given] if given else [])])}
