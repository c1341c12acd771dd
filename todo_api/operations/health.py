"""What those who look after the service ask of it: does it live, is it ready, what are its figures."""

import asyncio
from typing import Literal

import msgspec
import psycopg
from litestar import Controller, MediaType, get
from litestar.datastructures import State
from litestar.response.base import ASGIResponse
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from psycopg import errors

from todo_api.http.openapi import document
from todo_api.http.problems import SCHEMA_BEHIND, UNAVAILABLE, ProblemError
from todo_api.http.requests import StrictRequest
from todo_api.observability.metrics import Metrics
from todo_api.postgres import migrations

KNOWN = frozenset(migrations.known())

_PATIENCE = 2  # seconds; a probe that hangs is taken for a dead service


class Health(msgspec.Struct):
    """All is well."""

    status: Literal["ok"] = "ok"


class HealthController(Controller):
    """Not a resource: no guard stands before it."""

    tags = ["Operations"]

    @get("/health/live", **document("Ask whether the service lives", 200, Health))
    async def live(self) -> Health:
        """Answers as long as the process serves, whatever the database does."""
        return Health()

    @get("/health/ready", **document("Ask whether the service is ready", 200, Health, SCHEMA_BEHIND))
    async def ready(self, request: StrictRequest) -> Health:
        """Answers 200 where the database answers and its schema is current, within 2 s in any case.

        A schema that is ahead is current too: the next version may already be on its way.
        """
        try:
            async with asyncio.timeout(_PATIENCE):
                applied = {name for name, _ in await request.queries.fetch_all(migrations.APPLIED)}
        except errors.UndefinedTable:
            applied = set()
        except (psycopg.OperationalError, TimeoutError) as error:
            raise ProblemError(UNAVAILABLE, detail="The database does not answer.") from error
        except psycopg.Error as error:
            raise ProblemError(UNAVAILABLE, detail="The database does not tell its migrations.") from error
        if not applied >= KNOWN:
            raise ProblemError(SCHEMA_BEHIND)
        return Health()

    @get("/metrics", **document("Read the metrics", 200, str, media_type=MediaType.TEXT))
    async def metrics(self, state: State) -> ASGIResponse:
        """The figures of all workers, in the text format of Prometheus."""
        metrics: Metrics = state.metrics
        return ASGIResponse(body=await metrics.text(), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})
