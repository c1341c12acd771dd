"""What a large table does to a request. ``tests/plans.py`` shows every statement's plan at size."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from todo_api.app import create_app
from todo_api.resources.tasks.controller import LIST
from todo_api.settings import Settings

from .api import assert_problem, talking_to
from .databases import NewDatabase
from .planner import nodes, plan


@pytest.fixture(scope="module")
def crowded(new_database: NewDatabase, as_owner: Callable[[str], str]) -> tuple[str, str]:
    """A database with a user of 30,000 long tasks, and that user's id."""
    url = new_database()
    with psycopg.connect(as_owner(url), autocommit=True) as connection:
        ((user,),) = connection.execute("insert into users (email) values ('ada@example.org') returning id")
        connection.execute(
            "insert into tasks (user_id, title, description) "
            "select %s, 'Buy milk', repeat('milk ', 200) from generate_series(1, 30000)",
            [user],
        )
        connection.execute("vacuum (analyze) tasks")
    return url, str(user)


@pytest.mark.parametrize("mode", ["custom", "generic"])
@pytest.mark.parametrize("filters", [{"completed": True}, {"q": "bread"}, {"updated_since": "tomorrow"}])
@pytest.mark.parametrize("sort", LIST)
def test_a_page_reads_10000_tasks_at_most(
    crowded: tuple[str, str], as_owner: Callable[[str], str], sort: str, filters: dict[str, Any], mode: str
) -> None:
    """In the order of the index, where no task matches; one more shows that there are others behind them."""
    url, user = crowded
    with psycopg.connect(as_owner(url)) as connection:
        statement = LIST[sort].text.decode()
        values = {"user_id": user, "page_size": 101, **filters}
        explained = plan(connection, statement, values, mode, "analyze, buffers")
    (scan,) = [node for node in nodes(explained["Plan"]) if "Relation Name" in node]
    assert ("Index Scan", "tasks_pkey") == (scan["Node Type"], scan["Index Name"])
    assert 10_001 == scan["Actual Rows"]
    assert "Sort" not in {node["Node Type"] for node in nodes(explained["Plan"])}


async def test_a_statement_that_takes_too_long_is_stopped(
    crowded: tuple[str, str], as_owner: Callable[[str], str], application_role: str | None, tmp_path: Path
) -> None:
    """The time-out that the login was given ends it, and the answer is 503."""
    if application_role is None:
        pytest.skip("the login of TEST_DATABASE_URL may not create roles")
    url, user = crowded
    with psycopg.connect(as_owner(url), autocommit=True) as connection:
        names = sql.Identifier(application_role), sql.Identifier(urlsplit(url).path.lstrip("/"))
        connection.execute(
            sql.SQL("alter role {} in database {} set statement_timeout = '5ms'").format(*names)
        )
    async with talking_to(
        create_app(Settings(database_url=url, data_dir=tmp_path, statement_timeout=0))
    ) as client:
        response = await client.get(f"/api/{user}/tasks", params={"q": "bread"})
    assert_problem(response, 503, "timed-out")
    assert "retry-after" in response.headers
