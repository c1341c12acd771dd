"""What each statement reads where one user has 1,000,000 of 5,000,000 tasks: ``make plans``.

Loads a PostgreSQL of its own, which takes some minutes and 3 GB of disk under TMPDIR, runs every file of
``sql/`` with real parameters, undoes what it wrote, and prints a table. Exits with status 1 if a statement
has lost its index, if a deep page reads more than the first, or if a page looks at more than 10,000 tasks.
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import psycopg

from todo_api.postgres import embedded, explain, migrations

from .planner import nodes, plan

TASKS = 5_000_000
BATCH = 250_000
NEIGHBOURS = 40_000
SIZE = 101  # a page of 100, and one row more that tells whether there is a next page
LOOKS_AT = 10_001  # 10,000 tasks, and one more that tells whether there are others behind them

# The operator's list of users, and the few rows of what is applied or exists, are read as a whole.
WHOLE = {"users/list", "migrations/applied", "migrations/digests", "migrations/taken"}

SERVER = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "8GB",
    "shared_buffers": "512MB",
}

ADD_USERS = """
insert into users (email)
select format('%s@example.org', number) from generate_series(0, {neighbours}) as number
"""

# Every fifth task is the great user's, so that theirs lie among all others', as they do when time goes by.
# The oldest and the newest 500,000 are all open, so that pages of completed tasks find none at either end.
ADD_TASKS = """
insert into tasks (user_id, title, description, completed, updated_at)
select
    users.id,
    format('Task number %s of many', number),
    case when number % 2 = 0 then repeat('lorem ipsum ', 5) end,
    number % 3 = 0 and number between 500000 and 4500000,
    now() - (5000000 - number) * interval '1 second'
from generate_series({first}, {last}) as number
inner join users on users.email = format(
    '%s@example.org', case when number % 5 = 0 then 0 else 1 + number * 7919::bigint % {neighbours} end
)
order by number
"""


class Case(NamedTuple):
    """A statement and parameters to run it with."""

    name: str
    what: str
    values: dict[str, object]


class Cost(NamedTuple):
    """What a run of it took."""

    scans: str
    looked_at: int
    rows: int
    buffers: int
    milliseconds: float


def load(connection: psycopg.Connection) -> None:
    """Fill the tables, telling how far it is."""
    started = time.monotonic()
    # Rows that are made here need no look at the users whom they were made from.
    connection.execute("set session_replication_role = replica")
    connection.execute(ADD_USERS.format(neighbours=NEIGHBOURS).encode())
    for first in range(1, TASKS, BATCH):
        connection.execute(
            ADD_TASKS.format(first=first, last=first + BATCH - 1, neighbours=NEIGHBOURS).encode()
        )
        tell(f"{first + BATCH - 1:9,} tasks after {time.monotonic() - started:4.0f} s")
    connection.execute("set session_replication_role = origin")
    connection.execute("vacuum (analyze) users, tasks")
    connection.execute("checkpoint")
    tell(f"vacuumed after {time.monotonic() - started:.0f} s")


def cases(connection: psycopg.Connection) -> Iterator[Case]:
    """Each statement as the service runs it for the great user; those that read are run on several pages."""
    (user,) = one(connection, "select id from users where email = '0@example.org'")
    owner = {"user_id": user}

    def at(page: int) -> object:
        """The id of the last task before a page, newest first, counted from 1."""
        skipped = (page - 1) * (SIZE - 1) - 1
        query = "select id from tasks where user_id = %s order by id desc offset %s limit 1"
        return one(connection, query, user, skipped)[0]

    middle = {"user_id": user, "task_id": at(5_000)}
    content = {"title": "Buy milk", "description": None, "completed": False}
    key = {"idempotency_key": "a", "idempotency_digest": "\\x00"}
    for name in ("tasks/list_newest_first", "tasks/list_oldest_first"):
        page = {**owner, "page_size": SIZE}
        yield Case(name, "first page", page)
        yield Case(name, "thousandth page", {**page, "after": at(1_000 if "newest" in name else 9_001)})
        yield Case(name, "a text that half of them have", {**page, "q": "5 OF many"})
        yield Case(name, "completed, where none is", {**page, "completed": True})
        yield Case(name, "a text that none has", {**page, "q": "nowhere"})
        yield Case(name, "changed since tomorrow", {**page, "updated_since": "tomorrow"})
    yield Case("tasks/get", "", middle)
    yield Case("tasks/create", "without a key", owner | content)
    yield Case("tasks/create", "with a key", owner | content | key)
    yield Case("tasks/update", "", {**middle, "keep_description": True, "completed": True})
    yield Case("tasks/complete", "", middle)
    yield Case("tasks/delete", "", middle)
    yield Case("users/add", "", {"email": f"{uuid4()}@example.org"})
    yield Case("users/get", "", owner)
    yield Case("users/find", "", {"email": "77@EXAMPLE.org"})
    yield Case("users/list", "all", {})
    (neighbour,) = one(connection, "select id from users where email = '77@example.org'")
    yield Case("users/delete", "who has 125 tasks", {"user_id": neighbour})
    yield Case("health/writable", "", {"user_id": uuid4()})
    yield Case("health/room", "", {})
    yield Case("migrations/applied", "", {})
    yield Case("migrations/digests", "", {})
    yield Case("migrations/taken", "", {"names": "{users,tasks}"})


def run(connection: psycopg.Connection, statement: str, case: Case, mode: str) -> Cost:
    """Run a case, twice so that it finds everything in memory, and undo it."""
    for _ in range(2):
        explained = plan(connection, statement, case.values, mode, "analyze, buffers")
    root = explained["Plan"]
    # Reads of tables and indexes. A Bitmap Heap Scan gets its rows from the Bitmap Index Scan below it.
    scans = [node for node in nodes(root) if {"Relation Name", "Index Name"} & node.keys()]
    scans = [node for node in scans if node["Node Type"].endswith("Scan")]
    scans = [node for node in scans if node["Node Type"] != "Bitmap Heap Scan"]
    return Cost(
        ", ".join(
            node.get("Index Name") or f"{node['Node Type']} of {node['Relation Name']}" for node in scans
        ),
        sum(int(node["Actual Rows"] * node["Actual Loops"]) for node in scans),
        int(root["Actual Rows"]),
        root["Shared Hit Blocks"] + root["Shared Read Blocks"],
        explained["Planning Time"] + explained["Execution Time"],
    )


def faults(costs: dict[tuple[str, str], Cost]) -> Iterator[str]:
    """What the table must not show."""
    for (name, what), cost in costs.items():
        if " of " in cost.scans and name not in WHOLE:
            yield f"{name}, {what}: {cost.scans}"
        if what == "thousandth page" and cost.buffers > (first := costs[name, "first page"].buffers) * 1.1:
            yield f"{name}: {cost.buffers} buffers for the thousandth page, {first} for the first"
        if name.startswith("tasks/list") and cost.looked_at > LOOKS_AT:
            yield f"{name}, {what}: looked at {cost.looked_at} tasks"


def one(connection: psycopg.Connection, query: str, *parameters: object) -> tuple[object, ...]:
    """The only row of a query."""
    (row,) = connection.execute(query.encode(), parameters).fetchall()
    return row


def tell(line: str) -> None:
    """Say how it goes, apart from the table."""
    sys.stderr.write(line + "\n")


def main() -> int:
    """Print the table; return the exit status."""
    statements = {file.name: file.text.decode() for file in explain.statements()}
    found: list[str] = []
    with (
        tempfile.TemporaryDirectory() as directory,
        embedded.running(Path(directory), settings=SERVER) as url,
    ):
        migrations.apply(url, tell)
        with psycopg.connect(url, autocommit=True) as connection:
            load(connection)
            todo = list(cases(connection))
            if missing := statements.keys() - {case.name for case in todo}:
                found.append(f"no case runs {', '.join(sorted(missing))}")
            for mode in ("custom", "generic"):
                sys.stdout.write(f"\n| {mode} plan of | with | scans | looked at | rows | buffers | ms |\n")
                sys.stdout.write("| --- | --- | --- | ---: | ---: | ---: | ---: |\n")
                costs = {}
                for case in todo:
                    cost = costs[case.name, case.what] = run(connection, statements[case.name], case, mode)
                    sys.stdout.write(
                        f"| {case.name} | {case.what} | {cost.scans} | {cost.looked_at:,} | {cost.rows:,} "
                        f"| {cost.buffers:,} | {cost.milliseconds:.1f} |\n"
                    )
                found.extend(f"{mode}: {fault}" for fault in faults(costs))
    sys.stdout.writelines(f"{fault}\n" for fault in found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
