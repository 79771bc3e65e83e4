"""Take a sample of the small changes that mutmut makes to what decides, and see which the fast tests notice.

`[tool.mutmut]` in pyproject.toml names the modules and the tests. The same seed takes the same sample of the same code.
"""

import argparse
import random
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Final

FIRST: Final = "api_server.domain.x_admit__mutmut_1"
"""Any change that there is: mutmut makes them all before it tries the first one."""
NOTICED: Final = {"killed", "timeout", "segfault", "suspicious", "caught by type check"}


def mutmut(*arguments: str, capture_output: bool = False) -> str:
    """Run mutmut; what it says, if that is captured."""
    program = str(Path(sys.executable).with_name("mutmut"))
    ended = subprocess.run([program, *arguments], check=True, capture_output=capture_output, text=True)  # noqa: S603 - our own words
    return ended.stdout or ""


def statuses() -> dict[str, str]:
    """Read what is known of each change, by its name."""
    listed = mutmut("results", "--all", "true", capture_output=True)
    return dict(line.strip().split(": ", 1) for line in listed.splitlines() if "__mutmut_" in line)


def sample(names: list[str], each: int, seed: int) -> list[str]:
    """Take so many changes of each module."""
    modules = defaultdict(list)
    for name in sorted(names):
        modules[module_of(name)].append(name)
    chance = random.Random(seed)
    return [name for found in modules.values() for name in chance.sample(found, min(each, len(found)))]


def module_of(name: str) -> str:
    """Return the module of a change: `a.b` of `a.b.x_f__mutmut_1`."""
    return name.rpartition(".")[0]


def main() -> int:
    """Return 1 when fewer than nine of ten were noticed."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--each", type=int, default=5, help="how many changes of each module")
    options = parser.parse_args()
    # What mutmut made of older code stays otherwise, beside newer tests.
    shutil.rmtree("mutants", ignore_errors=True)
    mutmut("run", "--max-children", "1", FIRST)
    chosen = sample(list(statuses()), options.each, options.seed)
    mutmut("run", "--max-children", "1", *chosen)
    known = statuses()
    missed = [name for name in chosen if known[name] not in NOTICED]
    for name in missed:
        mutmut("show", name)
    noticed = len(chosen) - len(missed)
    print(f"noticed {noticed} of {len(chosen)}, seed {options.seed}, {options.each} of each module")  # noqa: T201 - its result
    return int(noticed < 0.9 * len(chosen))


if __name__ == "__main__":
    sys.exit(main())
