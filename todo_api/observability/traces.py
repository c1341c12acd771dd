"""Traces, if OPENTELEMETRY is on: a span for each request, named by its route, and for each statement.

The module needs the extra ``opentelemetry``, and is imported only if that is on. The OTEL_* variables of the
specification say where the spans go (OTLP over HTTP), which are kept, and what the service is called.
Statements have spans of our own: psycopg's instrumentation sees only cursors, and this service uses none.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from threading import Thread
from typing import Any

import psycopg
from litestar import Litestar
from litestar.config.app import AppConfig
from litestar.plugins.opentelemetry import OpenTelemetryConfig, OpenTelemetryPlugin
from litestar.types import Message, Scope
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode, get_current_span
from opentelemetry.util.http import sanitize_method

from todo_api.postgres.database import Observer

_GRACE = 2  # seconds to send the last spans at the end; the exporter itself would retry for longer

_URLS = ("http.url", "http.target", "url.")  # names, or what they begin with


class Tracing:
    """Makes spans of an application's requests and statements, and sends them."""

    def __init__(self) -> None:
        os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http")  # the stable names of attributes
        # What create() is given overrides OTEL_SERVICE_NAME, so what is detected goes last.
        named = {"service.name": "todo-api", **OTELResourceDetector().detect().attributes}
        self._provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
        self._tracer = self._provider.get_tracer("todo_api")
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))

    def install(self, config: AppConfig) -> AppConfig:
        """Add a span for each request, and send the last spans when the application ends."""
        requests = OpenTelemetryConfig(
            tracer_provider=self._provider,
            scope_span_details_extractor=lambda scope: (_method(scope), {}),
            server_request_hook_handler=_withhold_url,
            exclude_spans=["receive", "send"],
        )
        config.plugins.append(OpenTelemetryPlugin(requests))
        config.before_send.append(_name_span)
        config.lifespan.append(self._sending)
        return config

    def around(self, observe: Observer) -> Observer:
        """The same observer, with a span around each statement."""

        @contextmanager
        def traced(name: str) -> Iterator[None]:
            # Exceptions are not recorded, since their messages may quote a row.
            with (
                self._tracer.start_as_current_span(
                    name,
                    kind=SpanKind.CLIENT,
                    attributes={"db.system.name": "postgresql", "db.query.summary": name},
                    record_exception=False,
                    set_status_on_exception=False,
                ) as span,
                observe(name),
            ):
                try:
                    yield
                except psycopg.Error as error:
                    if error.sqlstate:
                        span.set_attribute("db.response.status_code", error.sqlstate)
                    # A violated constraint is a result, not a failure: a taken email, or a user who is gone.
                    if not isinstance(error, psycopg.IntegrityError):
                        span.set_attribute("error.type", error.sqlstate or type(error).__name__)
                        span.set_status(StatusCode.ERROR)
                    raise

        return traced

    @asynccontextmanager
    async def _sending(self, _app: Litestar) -> AsyncIterator[None]:
        """Send the last spans at the end."""
        try:
            yield
        finally:
            # The process would wait for any thread that is not a daemon.
            sending = Thread(target=self._provider.shutdown, daemon=True)
            sending.start()
            await asyncio.to_thread(sending.join, _GRACE)


def _method(scope: Any) -> str:
    """The request's method, or HTTP for one that no RFC defines."""
    method = sanitize_method(scope.get("method", ""))
    return "HTTP" if method == "_OTHER" else method


def _withhold_url(span: Span, scope: dict[str, Any]) -> None:
    """Hide the URL: a path names a user, and a query what the user looks for."""
    attributes = getattr(span, "attributes", None) or {}
    span.set_attributes({name: "withheld" for name in attributes if name.startswith(_URLS)})
    span.set_attribute("request_id", scope["state"]["request_id"])


async def _name_span(message: Message, scope: Scope) -> None:
    """Name the span when the response begins: only then is the route known."""
    route = scope.get("path_template")
    if message["type"] == "http.response.start" and route:
        span = get_current_span()
        span.update_name(f"{_method(scope)} {route}")
        span.set_attribute("http.route", route)
