"""A client that polls for changes as the list operation's description says misses none."""

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import psycopg

from todo_api.app import create_app
from todo_api.settings import Settings

from .api import User, make_user, talking_to
from .databases import NewDatabase

# A statement is stopped after 4 s and a client goes back by 10 s. Here both are a tenth of that, so that
# going back is not the same as reading everything again.
STATEMENT_TIMEOUT = 0.4  # seconds
BACK = timedelta(seconds=1)

CHANGES = 1000
WRITERS = 10


class Poller:
    """A client that asks for what changed since ``back`` before the newest time that it knows."""

    def __init__(self, user: User, back: timedelta) -> None:
        self.known: dict[str, str] = {}
        self._user = user
        self._back = back
        self._newest = datetime(2026, 1, 1, tzinfo=UTC)

    async def poll(self) -> None:
        """Follow the pages of one poll and note each task's version."""
        since = (self._newest - self._back).isoformat().replace("+00:00", "Z")
        url: str | None = f"{self._user.tasks}?limit=50&updated_since={since}"
        while url:
            response = await self._user.client.get(url)
            if response.status_code == 503:  # stopped: with so short a time-out, a busy machine is enough
                continue
            for task in response.json():
                self.known[task["id"]] = task["updated_at"]
                self._newest = max(self._newest, datetime.fromisoformat(task["updated_at"]))
            url = response.links.get("next", {}).get("url")


async def hold_locks(database: psycopg.AsyncConnection, tasks: list[str]) -> None:
    """Keep some of the tasks locked, so that changes of them wait, until cancelled."""
    while True:
        async with database.transaction():
            locked = random.sample(tasks, 5)
            await database.execute("select from tasks where id = any(%s::uuid[]) for update", [locked])
            await asyncio.sleep(STATEMENT_TIMEOUT / 2)


async def test_a_polling_client_misses_nothing(
    new_database: NewDatabase, as_owner: Callable[[str], str]
) -> None:
    """Of a thousand changes, many of which become visible late, it knows the last of each task.

    A client that does not go back misses some.
    """
    url = new_database()
    settings = Settings(database_url=url, statement_timeout=STATEMENT_TIMEOUT)
    async with (
        talking_to(create_app(settings)) as client,
        await psycopg.AsyncConnection.connect(as_owner(url), autocommit=True) as database,
    ):
        ada = await make_user(client)
        tasks = [(await ada.creates(f"{number}"))["id"] for number in range(50)]
        careful, careless = Poller(ada, BACK), Poller(ada, timedelta(0))
        todo = iter(range(CHANGES))

        async def write() -> None:
            for number in todo:
                if number % 5 == 0:
                    response = await client.post(ada.tasks, json={"title": "new"})
                else:
                    path = f"{ada.tasks}/{random.choice(tasks)}"
                    response = await client.patch(path, json={"description": f"{number}"})
                assert response.status_code in (200, 201, 503)
                await asyncio.sleep(0.02)

        locks = asyncio.create_task(hold_locks(database, tasks))
        writers = asyncio.gather(*(write() for _ in range(WRITERS)))
        while not writers.done():
            await careful.poll()
            await careless.poll()
        await writers
        locks.cancel()
        await asyncio.gather(locks, return_exceptions=True)
        await careful.poll()
        await careless.poll()
        current = {task["id"]: task["updated_at"] for task in await ada.lists(limit=1000)}
        assert current == careful.known
        assert current != careless.known
