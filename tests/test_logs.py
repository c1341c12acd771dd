"""What is logged of a request, what never is, and how a line looks."""

import dataclasses
import json
import logging
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import httpx
import msgspec
import pytest
from litestar.connection import ASGIConnection
from litestar.handlers.base import BaseRouteHandler

from todo_api.app import create_app
from todo_api.observability import logs
from todo_api.settings import Settings

from .api import User, make_user, talking_to
from .service import serving

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Iterator[Lines]:
    """All that was logged since the last call, as the JSON that an operator gets."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            print(self.format(record), file=sys.stderr)

    handler = Handler()
    handler.setFormatter(logs.FieldsFormatter(logs.as_json))
    handler.addFilter(lambda record: not record.name.startswith("http"))  # the tests' client logs too
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    root.removeHandler(handler)
    root.setLevel(before)


@pytest.fixture
async def ada(settings: Settings) -> AsyncIterator[User]:
    """A user of an application whose lifespan began before anything was logged."""
    async with talking_to(create_app(settings)) as client:
        yield await make_user(client)


async def test_each_request_is_one_line(ada: User, lines: Lines) -> None:
    """Method, route template, status, duration and id of each request, whatever became of it."""
    answers = [
        await ada.client.get(ada.tasks),
        await ada.client.post(ada.tasks, json={"title": ""}),
        await ada.client.get("/nowhere"),
        await ada.client.put(ada.tasks),
        await ada.client.request("BREW", "/nowhere"),
    ]
    logged = lines()
    tasks = "/api/{user_id}/tasks"
    assert [
        ("GET", tasks, 200),
        ("POST", tasks, 422),
        ("GET", "unmatched", 404),
        ("PUT", "unmatched", 405),
        ("other", "unmatched", 404),
    ] == [(line["method"], line["route"], line["status"]) for line in logged]
    assert [answer.headers["x-request-id"] for answer in answers] == [line["request_id"] for line in logged]
    for line in logged:
        assert {"time", "level", "logger", "message", "method", "route", "status", "duration_ms"} | {
            "request_id"
        } == line.keys()
        assert 0 < line["duration_ms"] < 60_000
        assert line["duration_ms"] == round(line["duration_ms"], 2)


async def test_access_log_is_switched_off(settings: Settings, lines: Lines) -> None:
    """ACCESS_LOG=false leaves no line of a request."""
    quiet = msgspec.structs.replace(settings, access_log=False)
    async with talking_to(create_app(quiet)) as client:
        await client.get("/health/live")
    assert [] == [line for line in lines() if line["logger"] == "todo_api.access"]


async def test_warning_leaves_requests_out_and_debug_shows_paths(ada: User, lines: Lines) -> None:
    """The level decides: from warning on no line a request, at debug the path in it, without the query."""
    root = logging.getLogger()
    root.setLevel(logs.config("warning")["root"]["level"])
    await ada.client.get(ada.tasks)
    assert [] == lines()
    root.setLevel(logs.config("debug")["root"]["level"])
    await ada.client.get(ada.tasks, params={"q": "secret"})
    [line] = [line for line in lines() if line["logger"] == "todo_api.access"]
    assert ada.tasks == line["path"]


async def test_nothing_that_a_client_wrote_is_logged(settings: Settings, lines: Lines) -> None:
    """Neither ids of users nor emails, titles, descriptions or queries, however the request ends."""

    def fail(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
        if "fail" in connection.headers:
            raise ValueError(connection.headers["fail"])

    async with talking_to(create_app(settings, guards=[fail])) as client:
        add = client.build_request("POST", "/api/users", json={"email": "secret@example.org"})
        ada = await make_user(client)
        task = await ada.creates("secret", description="secret")
        requests = [
            add,
            add,
            client.build_request("GET", ada.tasks, params={"q": "secret"}),
            client.build_request("GET", ada.tasks, params={"limit": "secret"}),
            client.build_request("POST", ada.tasks, json={"title": "secret" * 99}),
            client.build_request("POST", ada.tasks, json={"title": "secret", "secret": 1}),
            client.build_request("POST", ada.tasks, content="secret"),
            client.build_request("GET", f"/{ada.id}/secret"),
            client.build_request("PUT", ada.tasks, json={"title": "secret"}),
            client.build_request(
                "PATCH", ada.path(task), json={"title": "secret"}, headers={"fail": "secret"}
            ),
        ]
        statuses = [(await client.send(request)).status_code for request in requests]
    assert [201, 409, 200, 422, 422, 422, 415, 404, 405, 500] == statuses
    logged = lines()
    text = json.dumps(logged)
    assert "secret" not in text
    assert ada.id not in text
    assert task["id"] not in text
    [defect] = [line for line in logged if line["level"] == "error"]
    assert defect["stack"].endswith("ValueError")
    assert defect["request_id"] == logged[-1]["request_id"]


async def test_no_request_id_forges_a_line(ada: User, lines: Lines) -> None:
    """An id that is not sane is replaced; a sane one is taken over."""
    for forged in (b"x\n{}", b""):
        answer = await ada.client.get("/health/live", headers=[(b"x-request-id", forged)])
        [line] = lines()
        assert answer.headers["x-request-id"] == line["request_id"] != forged.decode()
    await ada.client.get("/health/live", headers={"X-Request-Id": 'mine"}'})
    assert 'mine"}' == lines()[0]["request_id"]


def record(message: str, *arguments: object, **extra: object) -> logging.LogRecord:
    """A record as a logger would make it of what is being raised, if anything is."""
    raised = sys.exc_info() if sys.exc_info()[0] else None
    return logging.getLogger("test").makeRecord(
        "test", logging.ERROR, "", 0, message, arguments, raised, extra=extra
    )


@dataclasses.dataclass
class Strange:
    """Something that JSON has no form for."""

    text: object


@pytest.mark.parametrize(
    ("message", "arguments", "extra"),
    [
        ("two\nlines", (), {}),
        ("%d arguments that do not fit", ("no",), {}),
        ("a lone surrogate: %s", ("\ud800",), {}),
        ("an object", (), {"value": object()}),
        ("a class of one's own", (), {"value": Strange(object())}),
        ("keys that are no text", (), {"value": {(1, 2): 3}}),
        ("no number", (), {"value": float("nan")}),
        ("a large number", (), {"value": 1 << 80}),
        ("bytes", (), {"value": b"\xff\x00"}),
        ("an exception", (), {"value": ValueError("\ud800")}),
    ],
)
def test_a_line_is_json_whatever_is_logged(
    message: str, arguments: tuple[object, ...], extra: dict[str, object]
) -> None:
    """One line, valid JSON, with the message and whatever else is known."""
    text = logs.FieldsFormatter(logs.as_json).format(record(message, *arguments, **extra))
    assert "\n" not in text
    line = json.loads(text, parse_constant=pytest.fail)
    assert message.split("%")[0] in line["message"]
    assert extra.keys() <= line.keys()


def test_a_terminal_shows_a_line_that_cannot_be_forged(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a terminal would obey is escaped, and colours are left out where NO_COLOR asks for it."""
    monkeypatch.setenv("NO_COLOR", "1")
    shown = logs.FieldsFormatter(logs.as_line).format(record("two\nlines", value="\x1b[2J\u202e"))
    assert shown.endswith(r"error   two\nlines value=\x1b[2J\u202e")


@pytest.mark.parametrize(("status", "colour"), [(101, 2), (204, 32), (304, 2), (404, 33), (503, 31)])
def test_a_terminal_shows_a_request_in_columns(
    status: int, colour: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status, method, route and duration of a request, then its id; its status has a colour."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    logger = logging.getLogger("todo_api.access")
    monkeypatch.setattr(logger, "isEnabledFor", lambda _level: True)
    token = logs.request_id.set("mine")
    logs.AccessLog().write("GET", "/api/users/{user_id}", status, 0.0123, b"/api/users/1\xff")
    logs.request_id.reset(token)
    assert re.fullmatch(
        rf"\x1b\[2m\d\d:\d\d:\d\d\x1b\[0m \x1b\[{colour}m{status}    \x1b\[0m"
        r" GET     /api/users/{user_id} +12\.30 ms"
        r" path=/api/users/1\xff \x1b\[2mmine\x1b\[0m\n",
        capsys.readouterr().err,
    )


def full() -> TextIO:
    """A file on a full disk."""
    return Path("/dev/full").open("w", buffering=1)


@pytest.mark.parametrize("state", ["never open", "full", "closed"])
async def test_a_request_is_answered_whatever_standard_error_is(
    state: str, ada: User, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that cannot be written is lost, and nothing else."""
    access_log = logs.AccessLog()
    with full() as stream:
        monkeypatch.setattr(sys, "stderr", None if state == "never open" else stream)
        if state == "closed":
            stream.close()
        await ada.lists()
        access_log.write("GET", "/", 200, 0.1, b"/")
        if state == "full":
            monkeypatch.undo()
            with pytest.raises(OSError, match="No space"):  # what is left in the buffer
                stream.close()


def test_exceptions_speak_outside_of_requests_only() -> None:
    """In a request a stack ends in the exception's type, as its message may quote the client.

    The request's id is on every line that is logged in it.
    """
    for form in (logs.as_json, logs.as_line):
        formatter = logs.FieldsFormatter(form)
        try:
            raise ValueError("sec" + "ret")  # the stack quotes this line
        except ValueError:
            broken = record("It broke")
        outside = formatter.format(broken)
        assert "ValueError: secret" in outside
        assert not {"request_id", "None"} & {*re.findall(r"\w+", outside)}
        token = logs.request_id.set("mine")
        try:
            inside = formatter.format(broken)
            assert "secret" not in inside
            assert "ValueError" in inside
            assert "mine" in inside
        finally:
            logs.request_id.reset(token)


def test_a_server_logs_json_where_nobody_watches(database_url: str, tmp_path: Path) -> None:
    """With standard error in a file, each line from the start on is JSON, and each request has one."""
    with serving(tmp_path, DATABASE_URL=database_url) as service:
        httpx.get(f"{service.url}/health/live", headers={"X-Request-Id": "mine"})
        service.stop()
        logged = [
            json.loads(line)
            for line in service.log.splitlines()
            if not line.startswith(("Database:", "Documentation:", "Stop:"))
        ]
    [line] = [line for line in logged if line.get("request_id") == "mine"]
    assert ("GET", "/health/live", 200) == (line["method"], line["route"], line["status"])
