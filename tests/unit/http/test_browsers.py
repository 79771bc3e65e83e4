"""What a browser may do, by the headers that it sends; programs are not concerned."""

import pytest
from starlette.datastructures import Headers

from api_server.http.browsers import Access, Refusal, hosts_of
from tests.unit.http.v1_api import Api, caller, problem_of

JSON = {"content-type": "application/json"}
FORM = {"content-type": "text/plain"}
HERE = {"host": "localhost:8080", "sec-fetch-site": "same-origin", "origin": "http://localhost:8080"}
# Without TLS and not on this machine, a browser says no Sec-Fetch-Site.
PLAIN = {"host": "hasty.example:8080", "origin": "http://hasty.example:8080"}
FOREIGN = {
    "cross-site": {"host": "localhost:8080", "sec-fetch-site": "cross-site", "origin": "http://evil.example"},
    "another port": {"host": "localhost:8080", "sec-fetch-site": "same-site", "origin": "http://localhost:3000"},
    "only Origin": {"host": "localhost:8080", "origin": "http://evil.example"},
    "only Origin, another port": {"host": "localhost:8080", "origin": "http://localhost:3000"},
    "sandboxed": {"host": "localhost:8080", "origin": "null"},
    "no origin with a reading": {"host": "localhost:8080", "sec-fetch-site": "cross-site"},
}
READS = [("GET", "/v1/jobs"), ("HEAD", "/v1/overview"), ("GET", "/v1")]
CHANGES = [("POST", "/v1/jobs"), ("POST", "/"), ("DELETE", "/x"), ("OPTIONS", "/v1/jobs")]


def judged(access: Access, method: str, path: str, headers: dict[str, str]) -> Refusal | None:
    """What is decided about a request."""
    return access.refusal(method, path, Headers(headers))


@pytest.mark.parametrize("headers", FOREIGN.values(), ids=list(FOREIGN))
@pytest.mark.parametrize(("method", "path"), READS + CHANGES)
def test_foreign_page_neither_acts_nor_reads(method: str, path: str, headers: dict[str, str]) -> None:
    """Whatever the dashboard may do, and whatever type the page gives its body."""
    for more in (JSON, FORM, {}):
        assert judged(Access("act"), method, path, {**headers, **more}) is Refusal.FOREIGN_ORIGIN


@pytest.mark.parametrize("headers", [HERE, PLAIN], ids=["same-origin", "without TLS"])
@pytest.mark.parametrize(("method", "path"), READS + CHANGES)
def test_own_page_reads_always_and_acts_if_allowed(method: str, path: str, headers: dict[str, str]) -> None:
    """With JSON."""
    changes = (method, path) in CHANGES
    assert judged(Access("act"), method, path, headers | JSON) is None
    assert judged(Access("read"), method, path, headers | JSON) is (Refusal.READ_ONLY if changes else None)
    assert judged(Access("off"), method, path, headers | JSON) is (Refusal.READ_ONLY if changes else None)


@pytest.mark.parametrize(("method", "path"), CHANGES)
def test_form_is_refused_even_from_an_own_page(method: str, path: str) -> None:
    """What a form can send, any page can send without asking first."""
    for more in (FORM, {}, {"content-type": "application/x-www-form-urlencoded"}):
        assert judged(Access("act"), method, path, HERE | more) is Refusal.FOREIGN_ORIGIN


@pytest.mark.parametrize(("method", "path"), READS + CHANGES)
@pytest.mark.parametrize("agent", ["curl/8.5.0", "node", "python-httpx/0.28.1", ""])
def test_program_does_whatever_it_wants(method: str, path: str, agent: str) -> None:
    """With any body type and any host."""
    headers = {"host": "x", "user-agent": agent, "accept-language": "*"}
    for more in (JSON, FORM, {}):
        assert judged(Access("off", {"localhost"}), method, path, headers | more) is None


@pytest.mark.parametrize("host", ["evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example:80", ""])
def test_page_that_rebinds_its_name_gets_nothing(host: str) -> None:
    """Its requests are of the same origin for the browser, and may carry no header but these."""
    access = Access("act", hosts_of("localhost, 127.0.0.1,[::1]"))
    agent = {"host": host, "user-agent": "Mozilla/5.0"}
    assert judged(access, "GET", "/v1/jobs", agent) is Refusal.FOREIGN_ORIGIN
    assert judged(access, "POST", "/v1/jobs", {**agent, "origin": f"http://{host}"} | JSON) is Refusal.FOREIGN_ORIGIN


@pytest.mark.parametrize("host", ["localhost:8080", "LOCALHOST", "127.0.0.1:1", "[::1]:8080", "[::1]"])
def test_named_hosts_are_answered(host: str) -> None:
    """With any port."""
    access = Access("act", hosts_of("localhost, 127.0.0.1,[::1]"))
    assert judged(access, "POST", "/v1/jobs", {"host": host, "origin": f"http://{host.lower()}"} | JSON) is None


def test_typed_address_and_link_to_a_job_are_answered() -> None:
    """A person who types an address; a link on another page to the original's way of reading a job."""
    typed = {"host": "localhost", "sec-fetch-site": "none"}
    assert judged(Access("read"), "GET", "/v1/jobs", typed) is None
    assert judged(Access("read"), "GET", "/some-job", FOREIGN["cross-site"]) is None


async def test_refusals_have_the_shape_of_their_dialect() -> None:
    """A problem under `/v1`, a message elsewhere; and no header that lets another origin read."""
    api = Api()
    await api.know_kinds()
    job = {"kind": "greet", "input": {"name": "Ada"}}
    async with caller(api.app) as http:
        own = {"sec-fetch-site": "same-origin"}
        foreign = await http.get("/v1/kinds", headers=FOREIGN["cross-site"])
        assert problem_of(foreign) == (403, "foreign-origin")
        asked_first = await http.options("/v1/jobs", headers=FOREIGN["cross-site"])
        assert asked_first.status_code == 403
        assert problem_of(await http.post("/v1/jobs", json=job, headers=own)) == (403, "read-only")
        form = await http.post("/", content=b'{"object_id": "x"}', headers=FOREIGN["only Origin"])
        assert (form.status_code, list(form.json())) == (403, ["message"])
        for response in (foreign, asked_first, form):
            assert not [name for name in response.headers if name.startswith("access-control-")]
        assert api.world.store.jobs == {}
        assert (await http.post("/v1/jobs", json=job)).status_code == 201
