"""Builds the application from its parts. Nothing else wires them together."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.types import Guard, OnAppInitHandler

from todo_api import settings
from todo_api.http import errors
from todo_api.http.bodies import StrictRequest
from todo_api.http.cors import Cors
from todo_api.http.methods import CompleteMethods
from todo_api.http.middleware import RequestMiddleware
from todo_api.observability.metrics import Metrics
from todo_api.operations.documentation import DocumentationController
from todo_api.operations.health import HealthController
from todo_api.postgres.database import Database, Observer, make_connections
from todo_api.queries import Queries
from todo_api.resources.request import ResourceRequest
from todo_api.resources.tasks.controller import TaskController
from todo_api.resources.users import UserController


def create_app(configuration: settings.Settings | None = None, *, guards: Sequence[Guard] = ()) -> Litestar:
    """Build the application, with the settings of the environment unless others are given.

    ``guards`` run before every handler of a resource: authorization goes here.
    """
    configuration = configuration or settings.load()
    connections = make_connections(configuration)
    metrics = Metrics(connections)
    observe: Observer = metrics.statement
    on_app_init: list[OnAppInitHandler] = []
    if configuration.opentelemetry:
        from todo_api.observability.traces import Tracing  # needs the extra

        tracing = Tracing()
        observe = tracing.around(observe)
        on_app_init.append(tracing.install)

    database = Database(
        connections,
        observe,
        timeout=configuration.pool_timeout,
        prepare=configuration.prepare_statements,
    )

    @asynccontextmanager
    async def lifespan(_app: Litestar) -> AsyncIterator[None]:
        async with connections.opened(configuration.pool_min_size), metrics.kept():
            yield

    app = Litestar(
        route_handlers=[
            Router(
                "/",
                route_handlers=[UserController, TaskController],
                guards=guards,
                request_class=ResourceRequest,
            ),
            HealthController,
            DocumentationController,
        ],
        state=State({"queries": Queries(database), "metrics": metrics}),
        lifespan=[lifespan],
        request_class=StrictRequest,
        exception_handlers={Exception: errors.respond},
        plugins=[CompleteMethods()],
        on_app_init=on_app_init,
        logging_config=None,
        openapi_config=None,  # todo_api.http.openapi builds the document
    )
    if configuration.cors_allow_origins:
        app.asgi_handler = Cors(app.asgi_handler, configuration.cors_allow_origins)
    app.asgi_handler = RequestMiddleware(app.asgi_handler, metrics, access_log=configuration.access_log)
    return app
