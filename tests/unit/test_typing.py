"""A type checker sees a handler as the function it is: mypy on a module with right and wrong calls."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

MODULE = """
import asyncio
from hasty import Context, Retry, command, job
from hasty.client import Hasty

@job
async def greet(name: str) -> str:
    return f"hello {name}"

@job(retry=Retry(attempts=5), timeout_s=120, key="{url}")
def resize(ctx: Context, url: str, width: int = 100) -> dict[str, int]:
    ctx.progress(0.5, "half")
    return {url: width}

@job(process=True)
def train(rows: int) -> float:
    return rows / 2

thumb = command("thumb", ["./thumb.sh"])
text: str = asyncio.run(greet("Ada"))
number: float = train(3)

asyncio.run(greet(1))  # error: arg-type
asyncio.run(greet(nam="Ada"))  # error: call-arg
wrong: int = train(3)  # error: assignment
resize("u", 3)  # error: arg-type
train.delay(3)  # error: attr-defined
job(retry=5)  # error: call-overload
command("thumb", 5)  # error: arg-type

@job(timeout_s="long")  # error: call-overload, untyped-decorator
async def slow() -> None: ...

def submits(hasty: Hasty) -> None:
    hasty.submit(greet, name="Ada")
    hasty.submit(resize, url="u", width=3)
    hasty.submit("anything", of=1)
    hasty.submit(thumb, url="u")
    hasty.submit(greet, nam="Ada")  # error: arg-type
    hasty.submit(resize, url=3)  # error: arg-type
"""


def test_type_checker_sees_a_handler_as_its_function(tmp_path: Path) -> None:
    """It accepts the right calls, and names every wrong one."""
    (tmp_path / "tasks.py").write_text(MODULE)
    options = ["--strict", "--config-file", "", "--cache-dir", str(tmp_path / "cache")]
    checked = subprocess.run(  # noqa: S603 - the type checker of this environment
        [sys.executable, "-m", "mypy", *options, "--no-error-summary", "--hide-error-context", "tasks.py"],
        cwd=tmp_path,
        env={"MYPYPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.stderr == ""

    expected = {
        (number, code.strip())
        for number, line in enumerate(MODULE.splitlines(), start=1)
        if "# error: " in line
        for code in line.partition("# error: ")[2].split(",")
    }
    errors = [line for line in checked.stdout.splitlines() if ": error: " in line]
    assert {(int(line.split(":")[1]), line.rpartition("[")[2].rstrip("]")) for line in errors} == expected, errors
