"""`/v1`, what concerns many jobs: lists, dead letters and the overview."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request, Response

from api_server.domain import Filters
from api_server.http import links, list_views
from api_server.http.answers import response_of
from api_server.http.list_views import DeadLetterList, JobPage, OverviewView
from api_server.http.parameters import After, Limit, refusals, wanted
from api_server.http.problems import answered, errors
from api_server.http.streams import EVENT_STREAM, Streams, event
from api_server.http.views import Views
from api_server.listing import Listing, cursor_of
from api_server.overview import Overview, Overviews
from hasty.jobs import DeadLetter
from hasty.server.runtime.answer import Answer
from hasty.server.runtime.batching import Overloaded

STREAMED: Final[dict[str, Any]] = {EVENT_STREAM: {"schema": {"type": "string"}}}


class SharedOverview:
    """The overview and the workers as all see them who ask within the same second: written once."""

    def __init__(self, overviews: Overviews, views: Views) -> None:
        self._overviews = overviews
        self._views = views
        self._latest: Overview | None = None
        self._shown = b""
        self._events = b""

    async def shown(self) -> bytes:
        """Return the overview.

        Raises:
            StoreUnavailable: when the database fails.
        """
        latest = await self._overviews.latest()
        if latest is not self._latest:
            self._latest, self._shown = latest, list_views.overview(latest, self._views.fleet(latest))
            self._events = b""
        return self._shown

    async def events(self) -> bytes:
        """Return what a stream says of them: an event `overview` and an event `workers`.

        Raises:
            StoreUnavailable: when the database fails.
        """
        shown = await self.shown()
        if not self._events:
            self._events = event(shown, name="overview") + event(self._views.workers(), name="workers")
        return self._events


@dataclass(frozen=True, slots=True)
class Lists:
    """What answers the requests."""

    listing: Listing
    shared_overview: SharedOverview
    latest_dead_letters: Callable[[int], Awaitable[Sequence[tuple[datetime, DeadLetter]]]]
    streams: Streams
    views: Views

    async def page(self, filters: Filters, after: str | None, limit: int) -> Answer:
        """Show a page of a list of jobs."""
        cursor = None if after is None else cursor_of(after)
        page = await self.listing.page(filters, cursor, limit)
        return Answer(200, (), list_views.page(page, self.views.job))

    def stream(self, filters: Filters) -> Response:
        """Stream what changes in a list of jobs."""
        return self.streams.jobs(lambda record: filters.match(record.job, self.views.root_kind))

    async def dead_letters(self, limit: int) -> Answer:
        """Show the latest dead letters."""
        return Answer(200, (), list_views.dead_letters(await self.latest_dead_letters(limit)))

    async def overview(self) -> Answer:
        """Show the overview."""
        return Answer(200, (), await self.shared_overview.shown())


def add_routes(router: APIRouter, lists: Lists) -> None:
    """Add the routes of lists."""

    @router.get(
        "/jobs",
        operation_id="list_jobs",
        response_model=JobPage,
        responses={**refusals(), 200: {"content": STREAMED, "links": links.OF_PAGE}},
    )
    async def jobs(
        request: Request, filters: Annotated[Filters, Depends(wanted)], limit: Limit = 50, after: After = None
    ) -> Response:
        """List jobs, newest first; as an event stream: each that is created, and each that has ended."""
        if accepts_events(request):
            return opened(partial(lists.stream, filters))
        return await answered(lists.page(filters, after, limit))

    @router.get("/dead-letters", operation_id="list_dead_letters", response_model=DeadLetterList, responses=refusals())
    async def dead_letters(limit: Limit = 50) -> Response:
        """Show the messages that the api-servers could not process, newest first."""
        return await answered(lists.dead_letters(limit))

    @router.get(
        "/overview",
        operation_id="show_overview",
        response_model=OverviewView,
        responses={**refusals(), 200: {"content": STREAMED}},
    )
    async def overview(request: Request) -> Response:
        """Show rates, latencies, what waits and who works; as an event stream: once a second, and `workers` too."""
        if accepts_events(request):
            return opened(partial(lists.streams.ticks, lists.shared_overview.events))
        return await answered(lists.overview())


def opened(open_stream: Callable[[], Response]) -> Response:
    """Answer with a stream, or with the problem that prevents it."""
    try:
        return open_stream()
    except Overloaded as error:
        return response_of(errors(error))


def accepts_events(request: Request) -> bool:
    """Whether a caller asks for an event stream."""
    return EVENT_STREAM in request.headers.get("accept", "")
