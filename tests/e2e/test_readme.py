"""The README's first five minutes, word for word, in a fresh folder; only the port is another one."""

import asyncio
import os
import re
import signal
import sys
from pathlib import Path

import httpx
import pytest

from tests.eventually import eventually
from tests.loopback import unused_port

pytestmark = [pytest.mark.own_stack, pytest.mark.starts_first]

ROOT = Path(__file__).parents[2]
SECTION = (ROOT / "README.md").read_text().partition("## The first five minutes\n")[2].partition("\n## ")[0]


def blocks(language: str) -> list[str]:
    """The section's code in a language."""
    return re.findall(rf"```{language}\n(.*?)```", SECTION, re.DOTALL)


async def shell(command: str, folder: Path, environment: dict[str, str]) -> asyncio.subprocess.Process:
    """Start what somebody types."""
    return await asyncio.create_subprocess_shell(
        command, cwd=folder, env=environment, stdout=asyncio.subprocess.PIPE, start_new_session=True
    )


async def test_first_five_minutes_are_as_the_readme_says(tmp_path: Path) -> None:
    """Write, start, submit, look."""
    if not (Path(sys.prefix) / "made.stamp").exists():
        pytest.skip("make has not made this environment, and would make it anew")
    # A fresh clone with everything installed.
    for name in ("Makefile", "pyproject.toml", "requirements"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (code,), (start, use) = blocks("python"), blocks("sh")
    (tmp_path / "tasks.py").write_text(code)
    address = f"localhost:{unused_port()}"
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.prefix, 'bin')}{os.pathsep}{os.environ['PATH']}",
        "HASTY_HTTP_PORT": address.partition(":")[2],
        "HASTY_URL": f"http://{address}",
    }

    system = await shell(start, tmp_path, environment)
    try:
        async with httpx.AsyncClient(base_url=f"http://{address}") as http:

            async def serves() -> bool:
                return '"greet"' in (await http.get("/v1/kinds")).text

            await eventually(serves, within_s=120)
            answers = []
            for command in use.splitlines():
                typed = await shell(command.replace("localhost:8080", address), tmp_path, environment)
                answers.append((await typed.communicate())[0].decode())
                assert typed.returncode == 0, command
            assert (await http.get("/ui/")).status_code == 200
    finally:
        # Ctrl-C.
        os.killpg(system.pid, signal.SIGINT)
        await system.communicate()

    assert answers
    assert all("hello Ada" in answer for answer in answers)
