"""What a large table does to a request; ``tests/plans.py`` shows each statement's plan at size."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
from psycopg import sql

from todo_api.app import create_app
from todo_api.settings import Settings

from .conftest import NewDatabase, assert_problem


async def test_a_filter_that_finds_nothing_is_stopped_in_time(
    new_database: NewDatabase, as_owner: Callable[[str], str], application_role: str | None, tmp_path: Path
) -> None:
    """A time-out that the login was given ends the search, and the client is told."""
    if application_role is None:
        pytest.skip("the login of TEST_DATABASE_URL may not create roles")
    url = new_database()
    with psycopg.connect(as_owner(url), autocommit=True) as connection:
        ((user,),) = connection.execute("insert into users (email) values ('ada@example.org') returning id")
        connection.execute(
            "insert into tasks (user_id, title, description) "
            "select %s, 'Buy milk', repeat('milk ', 200) from generate_series(1, 20000)",
            [user],
        )
        names = sql.Identifier(application_role), sql.Identifier(urlsplit(url).path.lstrip("/"))
        connection.execute(
            sql.SQL("alter role {} in database {} set statement_timeout = '20ms'").format(*names)
        )
    app = create_app(Settings(database_url=url, data_dir=tmp_path, statement_timeout=0))
    transport = httpx.ASGITransport(cast("Any", app), raise_app_exceptions=False)
    async with app.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        response = await client.get(f"/api/{user}/tasks", params={"q": "bread"})
    assert_problem(response, 503, "timed-out")
    assert "retry-after" in response.headers
