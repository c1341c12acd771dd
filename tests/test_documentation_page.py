"""The pages for people: the interactive one at /schema, and those that explain problems."""

import json
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import httpx
import pytest
from litestar import Litestar

from todo_api.http.problems import InvalidRequest, problem_types

from .api import assert_problem
from .browser import CHROMIUM, Page, browsing
from .databases import NewDatabase
from .service import serving

ASSETS = ["swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png", "pages.css", "page.js"]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase) -> Iterator[Page]:
    """The documentation in a browser, from a running server."""
    if not CHROMIUM:
        pytest.skip("there is no Chromium on this machine")
    directory = tmp_path_factory.mktemp("page")
    with serving(directory, DATABASE_URL=new_database()) as service, browsing(directory) as page:
        page.open(f"{service.url}/schema")
        page.wait_for("document.querySelector('.opblock')")
        yield page


def carry_out(page: Page, operation: str, **values: str) -> tuple[str, str]:
    """Try an operation out on the page, with the example as its body: the status and body that it shows."""
    block = f"document.querySelector('[id$=-{operation}]')"
    page.run(f"{block}.querySelector('.opblock-summary-control').click()")
    page.wait_for(f"{block}.querySelector('.try-out__btn')")
    page.run(f"{block}.querySelector('.try-out__btn').click()")
    page.wait_for(f"{block}.querySelector('.execute')")
    for name, value in values.items():
        # React hears of a value from the one event; the page waits for more to be typed until the other.
        page.run(f"""{{
            const input = {block}.querySelector('tr[data-param-name={name}] input');
            Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(input, '{value}');
            input.dispatchEvent(new Event('input', {{bubbles: true}}));
            input.dispatchEvent(new Event('focusout', {{bubbles: true}}));
        }}""")
    page.run(f"{block}.querySelector('.execute').click()")
    shown = f"{block}.querySelector('.live-responses-table tbody')"
    page.wait_for(f"{shown} && {shown}.querySelector('.highlight-code code')")
    status = page.run(f"{shown}.querySelector('.response-col_status').firstChild.textContent")
    return status, page.run(f"{shown}.querySelector('.highlight-code code').textContent")


def test_a_user_and_a_task_are_created_on_the_page(page: Page, tmp_path: Path) -> None:
    """Who tries a creation out on the page, with its example, is shown a 201, all from this one host."""
    assert page.run("document.querySelectorAll('.opblock').length") >= 9
    status, body = carry_out(page, "createUser")
    assert "201" == status, body
    user_id = json.loads(body)["id"]
    status, body = carry_out(page, "createTask", user_id=user_id)
    assert "201" == status, body
    assert user_id == json.loads(body)["user_id"]
    page.screenshot(tmp_path / "page.png")
    here = page.run("location.host")
    assert {"", here} == {urlsplit(url).netloc for url in page.requests()}  # data: URLs have no host
    assert [] == page.complaints()


def test_the_page_suits_a_phone_in_the_dark(page: Page) -> None:
    """It is dark, as wide as the screen even with operations open, and the operations begin near the top."""
    page.emulate(width=390, scheme="dark")
    page.open(page.run("location.href.split('#')[0]") + "?again")
    page.wait_for("document.querySelector('.opblock')")
    assert page.run("document.querySelector('.opblock').getBoundingClientRect().top") < 600
    for operation in ("listTasks", "createTask"):
        block = f"document.querySelector('[id$=-{operation}]')"
        page.run(f"{block}.querySelector('.opblock-summary-control').click()")
        page.wait_for(f"{block}.querySelector('.responses-table')")
        assert page.run(f"{block}.getBoundingClientRect().height") < 3500
    assert 390 == page.run("document.documentElement.scrollWidth")
    assert page.run("document.documentElement.classList.contains('dark-mode')")
    page.emulate(width=390, scheme="light")
    page.wait_for("!document.documentElement.classList.contains('dark-mode')")


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("/schema", {"img-src 'self' data:", "script-src 'self'", "connect-src 'self'"}),
        ("/problems", {"img-src 'self'"}),
        ("/problems/too-slow", {"img-src 'self'"}),
    ],
)
async def test_a_page_has_a_strict_policy(path: str, more: set[str], client: httpx.AsyncClient) -> None:
    """It runs the scripts of this host at most, nothing that somebody slips in, and in nobody's frame."""
    response = await client.get(path)
    assert "text/html; charset=utf-8" == response.headers["content-type"]
    nothing = {f"{what} 'none'" for what in ("default-src", "base-uri", "form-action", "frame-ancestors")}
    policy = response.headers["content-security-policy"].split("; ")
    assert nothing | more | {"style-src 'self'"} == set(policy)
    assert not re.search(r"(https?:)?//", response.text)


@pytest.mark.parametrize("path", ["/schema", "/schema/openapi.json", "/schema/openapi.yaml", "/problems"])
async def test_pages_answer_head_and_options(path: str, client: httpx.AsyncClient) -> None:
    """HEAD is answered like GET, and OPTIONS names both."""
    assert 200 == (await client.head(path)).status_code
    assert {"GET", "HEAD", "OPTIONS"} == set(
        re.findall(r"\w+", (await client.options(path)).headers["allow"])
    )


@pytest.mark.parametrize("path", [*(f"/schema/assets/{name}" for name in ASSETS), "/favicon.ico"])
async def test_assets_are_kept_by_browsers(path: str, client: httpx.AsyncClient) -> None:
    """The page's files may be kept for a day, and are not sent again while they are the same."""
    response = await client.get(path)
    assert 200 == response.status_code
    assert response.content
    assert "max-age=86400" == response.headers["cache-control"]
    tag = response.headers["etag"]
    for known in (tag, f'"other", W/{tag}', "*"):
        again = await client.get(path, headers={"If-None-Match": known})
        assert (304, b"") == (again.status_code, again.content)
        assert (tag, "max-age=86400") == (again.headers["etag"], again.headers["cache-control"])
    assert 200 == (await client.get(path, headers={"If-None-Match": '"other"'})).status_code


@pytest.mark.parametrize("path", ["/schema/assets/swagger-ui-bundle.js", "/schema/openapi.json"])
async def test_files_are_compressed_for_who_takes_it(path: str, client: httpx.AsyncClient) -> None:
    """With a tag of its own, at a third of the size at most; and as it is for everybody else."""
    plain = await client.get(path, headers={"Accept-Encoding": "br, gzip;q=0"})
    zipped = await client.get(path, headers={"Accept-Encoding": "br, gzip;q=0.5"})
    assert "content-encoding" not in plain.headers
    assert "gzip" == zipped.headers["content-encoding"]
    assert plain.content == zipped.content
    assert int(zipped.headers["content-length"]) * 3 < len(plain.content)
    assert plain.headers["etag"] != zipped.headers["etag"]
    assert "Accept-Encoding" == plain.headers["vary"] == zipped.headers["vary"]
    known = {"If-None-Match": zipped.headers["etag"], "Accept-Encoding": "gzip"}
    assert 304 == (await client.get(path, headers=known)).status_code


@pytest.mark.parametrize("prefix", ["", "/todo", "/schema", "/api"])
async def test_the_pages_hold_together_behind_a_prefix(prefix: str, app: Litestar) -> None:
    """With ROOT_PATH, which a proxy removes and the server puts back, every reference has it."""
    transport = httpx.ASGITransport(cast("Any", app), root_path=prefix)
    async with httpx.AsyncClient(transport=transport, base_url=f"http://test{prefix}") as client:
        for path in ("/", "/schema/"):
            response = await client.get(path)
            assert (302, f"{prefix}/schema") == (response.status_code, response.headers["location"])
        page = await client.get("/schema")
        script = (await client.get("/schema/assets/page.js")).text
        for reference in re.findall(r'(?:href|src|url)(?:=|: )"([^"]+)"', page.text + script):
            url = page.url.join(reference)
            assert url.path.startswith(f"{prefix}/schema/")
            assert 200 == (await client.get(url)).status_code
        document = (await client.get("/schema/openapi.json")).json()
        assert [{"url": prefix or "/"}] == document["servers"]
        for path in ("/problems", "/problems/not-found"):
            for reference in re.findall(r'href="([^"]+)"', (await client.get(path)).text):
                assert reference.startswith((f"{prefix}/problems", f"{prefix}/schema"))
                assert 200 == (await client.get(httpx.URL(f"http://test{reference}"))).status_code
        assert_problem(await client.get("/nope/"), 404, "not-found")


@pytest.mark.parametrize(
    "path",
    [
        "/schema/swagger",
        "/schema/oauth2-redirect.html",
        "/schema/assets/index.html",
        "/problems/none",
    ],
)
async def test_there_are_no_other_pages(path: str, client: httpx.AsyncClient) -> None:
    """What is not needed is not served, such as Swagger UI's own page, which would ask another host."""
    assert_problem(await client.get(path), 404, "not-found")


async def test_a_problems_type_leads_to_its_explanation(client: httpx.AsyncClient) -> None:
    """Each type is the address of a page with cause, remedy and example. One page lists all, by status."""
    index = (await client.get("/problems")).text
    statuses = re.findall("<dt>([0-9]+)", index)
    assert statuses == sorted(statuses)
    for kind in problem_types():
        response = await client.get(kind.uri)
        assert 200 == response.status_code
        assert f"<h1>{kind.title}</h1>" in response.text
        assert re.search("<h2>Cause</h2>\n<p>.*\n<h2>Remedy</h2>\n<p>.*\n<h2>Example</h2>", response.text)
        [example] = re.findall("<pre>(.*)</pre>", response.text, re.S)
        shown = json.loads(unescape(example))
        assert kind.uri == shown["type"]
        assert (["/title"] if kind is InvalidRequest else []) == [
            fault["pointer"] for fault in shown.get("errors", [])
        ]
        assert f'<a href="{kind.uri}">' in index


@pytest.mark.parametrize(("path", "target"), [("/", "/schema"), ("/schema/", "/schema")])
async def test_a_browser_is_sent_to_the_page(client: httpx.AsyncClient, path: str, target: str) -> None:
    """The root and the page's path with a slash lead to the page."""
    response = await client.get(path)
    assert (302, target) == (response.status_code, response.headers["location"])
