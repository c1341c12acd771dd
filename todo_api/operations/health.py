"""Health checks and metrics, for operators."""

import asyncio
from typing import Annotated, Literal
from uuid import UUID

import msgspec
import psycopg
from litestar import Controller, MediaType, get
from litestar.datastructures import State
from litestar.response.base import ASGIResponse
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from psycopg import errors

from todo_api.http.problems import SchemaBehind, Unavailable
from todo_api.observability.metrics import Metrics
from todo_api.postgres import migrations
from todo_api.queries import Statement

KNOWN = frozenset(migrations.known())
WRITABLE = Statement("health/writable", str, repeatable=True)
ROOM = Statement("health/room", int, repeatable=True)

_NOBODY = UUID(int=0)  # no user has this id

_PATIENCE = 2  # seconds; if it gets no answer, a probe takes the service for dead


class Health(msgspec.Struct):
    """The service is well."""

    status: Literal["ok"]


_WELL = Health("ok")


class HealthController(Controller):
    """Health checks and metrics, for operators."""

    tags = ["Monitoring"]

    @get("/health/live", summary="Check that the process serves")
    async def check_liveness(self) -> Health:
        """Answers 200 as long as the process serves, even without a database."""
        return _WELL

    @get(
        "/health/ready",
        summary="Check that the service is ready",
        raises=[SchemaBehind, Unavailable],
    )
    async def check_readiness(self, state: State) -> Health:
        """Answers within 2 s: 200 if the database answers, accepts writes and has the current schema.

        A newer schema is fine too: the next version of the service may be on its way.
        """
        try:
            async with asyncio.timeout(_PATIENCE):
                rows, *_ = await asyncio.gather(
                    state.queries.fetch_all(migrations.APPLIED),
                    state.queries.fetch_all(WRITABLE, user_id=_NOBODY),
                    state.queries.fetch_all(ROOM),
                )
            applied = {name for name, _ in rows}
        except errors.UndefinedTable:
            applied = set()
        except errors.ReadOnlySqlTransaction as error:
            raise Unavailable(detail="The database does not accept writes.") from error
        except errors.DiskFull as error:
            raise Unavailable(detail="The database's disk is full.") from error
        except (psycopg.OperationalError, TimeoutError) as error:
            raise Unavailable(detail="The database does not answer.") from error
        except psycopg.Error as error:
            raise Unavailable(detail="The applied migrations cannot be read.") from error
        if not applied >= KNOWN:
            raise SchemaBehind
        return _WELL

    @get("/metrics", summary="Read the metrics", media_type=MediaType.TEXT, raises=[Unavailable])
    async def get_metrics(self, state: State) -> Annotated[ASGIResponse, str]:
        """The metrics of all workers, in the text format of Prometheus."""
        metrics: Metrics = state.metrics
        try:
            text = await metrics.text()
        except OSError as error:
            raise Unavailable(detail="The workers' metrics cannot be read; restart the service.") from error
        return ASGIResponse(body=text, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})
