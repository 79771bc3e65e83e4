"""What pages in a browser may do: a page of another origin neither acts nor reads, the dashboard as `HASTY_UI` says.

Programs such as curl are not concerned: they send none of the headers by which a browser is known. A page can neither
leave out nor choose what `Sec-Fetch-Site` and `Origin` say. A browser sends one of them with every request that may
change something; with plain reading without TLS it may send neither, and is known by its `User-Agent`.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api_server.http.answers import response_of
from hasty.server.runtime.answer import Answer
from hasty.server.runtime.fast_path import BROWSER, PAGES_SEND

Ui = Literal["off", "read", "act"]

READING: Final = frozenset({"GET", "HEAD"})
OWN: Final = frozenset({"same-origin", "none"})
"""What `Sec-Fetch-Site` says of a page of this origin, and of an address that was typed or bookmarked."""

_JSON: Final = "application/json"
_SENT: Final = tuple(name.decode() for name in PAGES_SEND)
_BROWSER: Final = BROWSER.decode()


class Refusal(StrEnum):
    """Why a browser's request is refused."""

    FOREIGN_ORIGIN = "foreign-origin"
    READ_ONLY = "read-only"


@dataclass(frozen=True, slots=True)
class Access:
    """What browsers may do here.

    `hosts` are the names under which browsers may reach this service, without ports, or nothing for any name. Where
    they are given, a page cannot get in under a name of its own that it has made point here (DNS rebinding).
    """

    ui: Ui = "read"
    hosts: Collection[str] = ()

    def refusal(self, method: str, path: str, headers: Headers) -> Refusal | None:
        """Decide about a request; None when it may go on."""
        from_page = any(name in headers for name in _SENT)
        if not from_page and not headers.get("user-agent", "").startswith(_BROWSER):
            return None
        changes = method not in READING
        if not changes and not _is_api(path):
            # A job's status by the original's request: like any answer here, no page of another origin can read it.
            return None
        if self._is_foreign(headers) or (changes and from_page and not _says_json(headers)):
            return Refusal.FOREIGN_ORIGIN
        return Refusal.READ_ONLY if changes and from_page and self.ui != "act" else None

    def _is_foreign(self, headers: Headers) -> bool:
        host = headers.get("host", "").lower()
        if self.hosts and _without_port(host) not in self.hosts:
            return True
        sites = headers.getlist("sec-fetch-site")
        if sites:
            return any(site not in OWN for site in sites)
        # Sent with everything but plain reading; browsers that know no Sec-Fetch-Site, or have no TLS, send it alone.
        return any(origin.partition("://")[2].lower() != host for origin in headers.getlist("origin"))


class OfBrowsers:
    """Passes on what `access` allows; `refuse` answers the rest, by its path."""

    def __init__(self, app: ASGIApp, access: Access, refuse: Callable[[str, Refusal], Answer]) -> None:
        self._app = app
        self._access = access
        self._refuse = refuse

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer a request."""
        if scope["type"] == "http":
            refusal = self._access.refusal(scope["method"], scope["path"], Headers(scope=scope))
            if refusal is not None:
                return response_of(self._refuse(scope["path"], refusal))(scope, receive, send)
        return self._app(scope, receive, send)


def hosts_of(text: str) -> frozenset[str]:
    """Read names that are separated by commas."""
    return frozenset(_stripped(text.lower().split(",")))


def _stripped(names: Iterable[str]) -> Iterable[str]:
    return (name.strip() for name in names if name.strip())


def _is_api(path: str) -> bool:
    return path == "/v1" or path.startswith("/v1/")


def _says_json(headers: Headers) -> bool:
    """Whether the content type is one that no form has, so that a page of another origin would have to ask first."""
    return headers.get("content-type", "").partition(";")[0].strip().lower() == _JSON


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host
