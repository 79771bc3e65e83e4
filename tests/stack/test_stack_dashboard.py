"""nginx and the dashboard: who is sent to it, and with which rights its pages run."""

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from hasty.server.local_stack import Stack
from tests.stack.stacks import config

pytestmark = [pytest.mark.own_stack, pytest.mark.asyncio(loop_scope="module")]

PAGE = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    """A caller of a nginx whose dashboard may read."""
    folder = tmp_path_factory.mktemp("read")
    reading = config(folder, job_servers=0, environment={"HASTY_UI": "read"})
    async with Stack.running(reading) as stack, httpx.AsyncClient(base_url=stack.url) as client:
        yield client


async def test_page_has_a_policy_that_allows_its_own_files(http: httpx.AsyncClient) -> None:
    """No inline code, no other origin, no frame around it, no text that becomes code."""
    page = await http.get("/ui/")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = dict(part.strip().partition(" ")[::2] for part in page.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert {policy[name] for name in ("script-src", "style-src", "connect-src", "worker-src")} == {"'self'"}
    assert "unsafe" not in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["cache-control"] == "no-cache"


async def test_page_that_has_not_changed_is_not_sent_again(http: httpx.AsyncClient) -> None:
    """A browser asks each time, so that it never runs old files, and gets 304."""
    etag = (await http.get("/ui/")).headers["etag"]
    assert (await http.get("/ui/", headers={"if-none-match": etag})).status_code == 304


@pytest.mark.parametrize(
    ("method", "path", "headers", "expected"),
    [
        ("GET", "/", PAGE, "/ui/"),
        ("HEAD", "/", PAGE, "/ui/"),
        ("GET", "/", {"accept": "*/*"}, None),
        ("GET", "/", {}, None),
        ("POST", "/", PAGE, None),
        ("GET", "/0f3b0a53-0000-7000-8000-000000000000", PAGE, None),
        ("GET", "/ui", PAGE, "/ui/"),
    ],
)
async def test_only_browsers_that_open_the_root_are_redirected(
    http: httpx.AsyncClient, method: str, path: str, headers: Mapping[str, str], expected: str | None
) -> None:
    """Everything else reaches the api-server as ever."""
    response = await http.request(method, path, headers=headers)
    assert response.headers.get("location") == expected
    assert response.status_code == (200 if expected is None else 308 if path == "/ui" else 303)


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [("POST", "/ui/", 405), ("GET", "/ui/no-such-file.js", 404), ("GET", "/ui/vendor/", 404)],
)
async def test_what_is_no_file_of_the_dashboard_is_refused(
    http: httpx.AsyncClient, method: str, path: str, expected: int
) -> None:
    """In the shape of every other refusal."""
    response = await http.request(method, path)
    assert (response.status_code, list(response.json())) == (expected, ["message"])


@pytest.mark.parametrize(
    "path", ["/ui/%2e%2e/nginx.conf", "/ui/..%2fnginx.conf", "/ui../nginx.conf", "/ui/.%2e/nginx.conf"]
)
async def test_nothing_beside_the_folder_is_shown(http: httpx.AsyncClient, path: str) -> None:
    """Such as nginx's own configuration."""
    assert "worker_processes" not in (await http.get(path)).text


async def test_answers_of_v1_are_for_no_other_origin(http: httpx.AsyncClient) -> None:
    """Nothing allows another origin to read them or to include them; the api-server gets host and port."""
    response = await http.get("/v1/overview", headers={"origin": "http://evil.example"})
    assert not [name for name in response.headers if name.startswith("access-control-")]
    assert response.headers["cross-origin-resource-policy"] == "same-origin"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert f"http://{response.json()['headers']['host']}" == str(http.base_url).rstrip("/")


async def test_without_dashboard_nothing_leads_to_it(tmp_path: Path) -> None:
    """With HASTY_UI=off, a browser gets what curl gets."""
    without = config(tmp_path, job_servers=0, environment={"HASTY_UI": "off"})
    async with Stack.running(without) as stack, httpx.AsyncClient(base_url=stack.url) as client:
        for path in ("/ui", "/ui/", "/ui/index.html"):
            assert (await client.get(path)).status_code == 404
        assert (await client.get("/", headers=PAGE)).json()["path"] == "/"


@pytest.mark.parametrize("environment", [{}, {"HASTY_UI": "read", "HASTY_UI_HOSTS": "here"}])
async def test_loopback_stack_lets_its_own_browsers_act(tmp_path: Path, environment: Mapping[str, str]) -> None:
    """Unless it is told otherwise."""
    async with Stack.running(config(tmp_path, job_servers=0, environment=environment)) as stack:
        said = (stack.children["api-server-1"].log).read_text().partition("serving ")[2].splitlines()[0]
        expected = environment or {"HASTY_UI": "act", "HASTY_UI_HOSTS": "localhost,127.0.0.1,[::1]"}
        assert expected.items() <= json.loads(said).items()
