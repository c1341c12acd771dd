"""Traces, as a collector on the wire receives them."""

import socket
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import msgspec
import psycopg
import pytest
from opentelemetry.instrumentation._semconv import (
    OTEL_SEMCONV_STABILITY_OPT_IN,
    _OpenTelemetrySemanticConventionStability,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from todo_api.app import create_app
from todo_api.settings import Settings, SettingsError, load

from .api import make_user, talking_to
from .databases import NewDatabase
from .service import COMMAND, serving


@pytest.fixture
def collected(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """The bodies that a collector was sent."""
    bodies: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        thread = Thread(target=server.serve_forever, args=[0.05])
        thread.start()
        yield bodies
        server.shutdown()
        thread.join()


def spans(bodies: list[bytes]) -> list[Span]:
    """All spans: those of one kind in the order in which they ended."""
    requests = [ExportTraceServiceRequest.FromString(body) for body in bodies]
    return [
        span
        for request in requests
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def attributes(span: Span) -> dict[str, Any]:
    """What a span says."""
    return {each.key: each.value.string_value for each in span.attributes}


@pytest.mark.parametrize("conventions", [None, "http/dup"])
async def test_requests_and_statements_are_traced(
    conventions: str | None, settings: Settings, collected: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A span for each request, named by its route, holds one for each statement, and nothing of a client.

    By the stable conventions, or by these and the older ones, as OpenTelemetry's variable says.
    """
    monkeypatch.setattr(_OpenTelemetrySemanticConventionStability, "_initialized", False)
    monkeypatch.delenv(OTEL_SEMCONV_STABILITY_OPT_IN, raising=False)
    if conventions:
        monkeypatch.setenv(OTEL_SEMCONV_STABILITY_OPT_IN, conventions)
    traced = msgspec.structs.replace(settings, opentelemetry=True)
    async with talking_to(create_app(traced)) as client:
        ada = await make_user(client)
        task = await ada.creates("secret")
        await ada.lists(q="secret")
        for _ in "first", "taken":
            answer = await client.post("/api/users", json={"email": "secret-of-traces@example.org"})
        await client.get(f"/{ada.id}/secret?q=secret")
        await client.request("SECRET", "/api/users")
    found = spans(collected)
    by_name = {span.name: span for span in found}
    assert [
        "POST /api/users",
        "POST /api/{user_id}/tasks",
        "GET /api/{user_id}/tasks",
        "POST /api/users",
        "POST /api/users",
        "GET",
        "HTTP",
    ] == [span.name for span in found if span.kind == Span.SPAN_KIND_SERVER]
    assert ["users/add", "tasks/create", "tasks/list_newest_first", "users/add", "users/add"] == [
        span.name for span in found if span.kind == Span.SPAN_KIND_CLIENT
    ]
    assert by_name["POST /api/{user_id}/tasks"].span_id == by_name["tasks/create"].parent_span_id
    assert "/api/{user_id}/tasks" == attributes(by_name["GET /api/{user_id}/tasks"])["http.route"]
    assert answer.headers["x-request-id"] == attributes(by_name["POST /api/users"])["request_id"]
    list_request = attributes(by_name["GET /api/{user_id}/tasks"])
    assert ("GET", "withheld", "withheld") == tuple(
        list_request[name] for name in ("http.request.method", "url.path", "url.query")
    )
    assert bool(conventions) == ("http.target" in list_request)
    for private in ("secret", ada.id, task["id"]):
        assert not [body for body in collected if private.encode() in body]


async def test_a_statement_that_fails_is_an_error_unless_a_constraint_was_violated(
    settings: Settings, collected: list[bytes], new_database: NewDatabase, as_owner: Callable[[str], str]
) -> None:
    """The taken email is an answer that was to be expected; a table that is gone is not."""
    url = new_database()
    traced = msgspec.structs.replace(settings, opentelemetry=True, database_url=url)
    async with talking_to(create_app(traced)) as client:
        for expected in (201, 409):
            answer = await client.post("/api/users", json={"email": "ada@example.org"})
            assert expected == answer.status_code
        with psycopg.connect(as_owner(url)) as owner:
            owner.execute("alter table users rename to gone")
        assert 500 <= (await client.post("/api/users", json={"email": "bob@example.org"})).status_code
    statements = [span for span in spans(collected) if span.name == "users/add"]
    requests = [span for span in spans(collected) if span.name == "POST /api/users"]
    assert [Status.STATUS_CODE_UNSET, Status.STATUS_CODE_UNSET, Status.STATUS_CODE_ERROR] == [
        span.status.code for span in statements
    ]
    assert [None, "23505", "42P01"] == [
        attributes(span).get("db.response.status_code") for span in statements
    ]
    assert [None, None, "42P01"] == [attributes(span).get("error.type") for span in statements]
    assert [Status.STATUS_CODE_UNSET, Status.STATUS_CODE_UNSET, Status.STATUS_CODE_ERROR] == [
        span.status.code for span in requests
    ]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "todo-api"),
        ({"OTEL_SERVICE_NAME": "todo"}, "todo"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=todo,service.version=1"}, "todo"),
    ],
)
async def test_the_service_is_called_as_the_variables_say(
    variables: dict[str, str],
    expected: str,
    settings: Settings,
    collected: list[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """OpenTelemetry's own variables name the service; without them it has a name of its own."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    async with talking_to(create_app(msgspec.structs.replace(settings, opentelemetry=True))) as client:
        await client.get("/health/live")
    [request] = [ExportTraceServiceRequest.FromString(body) for body in collected]
    resource = {each.key: each.value.string_value for each in request.resource_spans[0].resource.attributes}
    assert expected == resource["service.name"]


async def test_nothing_is_traced_by_default(settings: Settings, collected: list[bytes]) -> None:
    """A collector that is there is sent nothing unless traces are switched on."""
    async with talking_to(create_app(settings)) as client:
        await client.get("/health/ready")
    assert [] == collected


@pytest.mark.parametrize("answers", [False, True], ids=["refuses", "never answers"])
def test_a_collector_that_is_away_delays_the_end_by_two_seconds(
    answers: bool, database_url: str, tmp_path: Path
) -> None:
    """SIGTERM ends the service in time, whatever becomes of the last spans."""
    with socket.create_server(("127.0.0.1", 0)) as collector:
        port = collector.getsockname()[1]
        if not answers:
            collector.close()
        variables = {"OPENTELEMETRY": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}
        variables["DATABASE_URL"] = database_url
        with serving(tmp_path, command=[*COMMAND, "serve"], **variables) as service:
            assert 200 == httpx.get(f"{service.url}/health/ready").status_code
            began = time.monotonic()
            service.stop()
            took = time.monotonic() - began
    print(f"ended after {took:.2f} s")
    assert took < 8


def test_traces_without_their_packages_stop_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One sentence says what to install."""
    monkeypatch.setattr("todo_api.settings.find_spec", lambda _name: None)
    with pytest.raises(SettingsError, match=r"pip install 'todo-api\[opentelemetry\]'"):
        load({"OPENTELEMETRY": "true"}, tmp_path / ".env")
