"""The benchmark notices a server that answers otherwise, and shows what it measured."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4
from xml.etree import ElementTree

import httpx
import psycopg
import pytest

from . import answers, chart
from .bench import OPERATIONS, PEERS
from .service import ROOT

SVG = "{http://www.w3.org/2000/svg}"


def found(server: str, database: psycopg.Connection, alter: Callable[[httpx.Response], object]) -> list[str]:
    """The faults of the service with an altered answer, for a new user with two tasks."""
    with httpx.Client(base_url=server) as client:
        user = client.post("/api/users", json={"email": f"{uuid4()}@example.org"}).json()["id"]
        task, _ = (
            client.post(f"/api/{user}/tasks", json={"title": title}).json() for title in ("Sow", "Reap")
        )

        def altered(response: httpx.Response) -> None:
            response.read()
            alter(response)

        client.event_hooks["response"] = [altered]
        return list(answers.faults(client, database, user, task["id"]))


def rewrite(change: Callable[[str], str]) -> Callable[[httpx.Response], None]:
    """A server that writes its answers otherwise."""

    def alter(response: httpx.Response) -> None:
        response._content = change(response.text).encode()

    return alter


def status(response: httpx.Response) -> None:
    """A server that answers 200 to a create."""
    response.status_code = 200


def reverse(response: httpx.Response) -> None:
    """A server that lists in another order."""
    if isinstance(response.json(), list):
        response._content = json.dumps(response.json()[::-1]).encode()


def test_the_service_answers_alike(server: str, database: psycopg.Connection) -> None:
    """Nothing is wrong with the service itself, nor with one that writes its times in another form."""
    assert found(server, database, lambda _response: None) == []
    assert found(server, database, rewrite(lambda text: re.sub(r"0*Z\b", "+00:00", text))) == []


@pytest.mark.parametrize(
    ("alter", "fault"),
    [
        (rewrite(lambda text: re.sub(r"\.\d+Z", ".000Z", text)), "get: created_at is "),
        (
            rewrite(lambda text: text.replace('"description":null,', "")),
            "list: description is missing, not None",
        ),
        (rewrite(lambda text: text.replace("}", ',"note":1}')), "create: note is 1, not missing"),
        (rewrite(lambda text: text.replace("milk", "Milk")), "update: title is Buy Milk, not Buy milk"),
        (rewrite(lambda text: text.replace("true", "false")), "toggle: completed is False, not True"),
        (status, "create: status 200, not 201"),
        (reverse, "list: title is Sow, not Reap"),
    ],
)
def test_another_answer_is_noticed(
    server: str, database: psycopg.Connection, alter: Callable[[httpx.Response], None], fault: str
) -> None:
    """The fault names the operation, the field, and both values."""
    assert [line for line in found(server, database, alter) if line.startswith(fault)]


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        (
            b"update tasks set completed = true where user_id = %s and title = 'Reap'",
            "get: completed is True, not False",
        ),
        (b"delete from tasks where user_id = %s and title = 'Reap'", "get: 1 tasks, not 2"),
        (b"update tasks set updated_at = '2020-01-01Z' where user_id = %s", "toggle: updated_at stays"),
    ],
)
def test_another_effect_is_noticed(
    server: str, database: psycopg.Connection, statement: bytes, fault: str
) -> None:
    """What a request does to the database besides, or leaves undone, counts as well as its answer."""

    def alter(response: httpx.Response) -> None:
        database.execute(statement, (response.url.path.split("/")[2],))

    assert fault.replace(":", ", in the database:") in found(server, database, alter)


def test_chart_and_table_show_each_figure(tmp_path: Path) -> None:
    """The chart is well-formed, has a bar as long as each rate says, and the page has both, however often."""
    loads = {
        name: {"rate": rate * 1000, "median": 4.2, "p99": 7.3, "cpu": 139, "database": 60, "memory": 62}
        for rate, name in enumerate(("todo-api", *PEERS), 1)
    }
    path, page = tmp_path / "benchmark.json", tmp_path / "benchmark.md"
    path.write_text(json.dumps({"how": "Made up.", "operations": dict.fromkeys(OPERATIONS, loads)}))
    shutil.copy(ROOT / "docs" / "benchmark.md", page)
    before = page.read_text()
    shown = chart.publish(path)
    once = page.read_text()
    assert chart.publish(path) == shown and page.read_text() == once
    assert shown in once and once.startswith(before.partition("<!-- figures -->")[0])
    assert once.endswith(before.partition("<!-- end of figures -->")[2])
    assert "| toggle | Fastify, postgres.js | 5,000 | 0.20 | 139 | 60 | 4.20 | 7.30 | 62 |" in shown

    drawing = ElementTree.parse(path.with_suffix(".svg")).getroot()
    width = float(drawing.attrib["width"])
    written = [text.text for text in drawing.iter(f"{SVG}text")]
    assert [*PEERS] == [name for name in written if name in PEERS]
    _page, *bars = drawing.iter(f"{SVG}rect")
    assert len(bars) == len(OPERATIONS) * len(loads)
    assert {float(bar.attrib["width"]) for bar in bars} == {chart.BAR * rate / 5 for rate in range(1, 6)}
    assert all(float(bar.attrib["x"]) + float(bar.attrib["width"]) < width for bar in bars)
    assert "prefers-color-scheme: dark" in (drawing.findtext(f"{SVG}style") or "")
