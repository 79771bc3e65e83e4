"""The settings of the services, validated by the services themselves before anything starts."""

import asyncio
from dataclasses import dataclass

from hasty.server.local_stack import parts
from hasty.server.local_stack.config import API_SERVER, JOB_SERVER, StackConfig
from hasty.server.local_stack.errors import WouldNotStartError
from hasty.server.local_stack.part import Tell
from hasty.server.local_stack.process import Command
from hasty.server.local_stack.restarts import BAD_SETTINGS
from hasty.server.local_stack.settings import SettingsError


@dataclass(frozen=True)
class _Answer:
    code: int
    lines: list[str]


async def check_settings(config: StackConfig, tell: Tell) -> None:
    """Pass on the services' warnings.

    SettingsError with a line for each wrong setting, WouldNotStartError when a service cannot even say that.
    """
    roles = [API_SERVER, *([JOB_SERVER] if config.job_servers else [])]
    commands = {role: command for role in roles if (command := parts.check(role, config))}
    answers = dict(zip(commands, await asyncio.gather(*map(_ask, commands.values())), strict=True))
    for role, answer in answers.items():
        if answer.code not in {0, BAD_SETTINGS}:
            said = answer.lines[-1] if answer.lines else "it said nothing"
            raise WouldNotStartError(f"{role} cannot check its settings (exit code {answer.code}): {said}")
    lines = list(dict.fromkeys(line for answer in answers.values() for line in answer.lines))
    if any(answer.code for answer in answers.values()):
        raise SettingsError("\n".join(lines))
    for line in lines:
        tell(line)


async def _ask(command: Command) -> _Answer:
    process = await asyncio.create_subprocess_exec(
        *command.arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=dict(command.environment),
        cwd=command.folder,
    )
    output, _ = await process.communicate()
    return _Answer(process.returncode or 0, [line for line in output.decode(errors="replace").splitlines() if line])
