"""How fast the service is, as it is shipped: one process, writes made durable, no line a request.

It runs on a PostgreSQL of its own with 1000 users of 20 tasks each, and Debian's wrk sends one kind of
request after another over 32 connections. Where there are two processors the service has the first to
itself, and PostgreSQL and wrk share the second. What else the machine does is in the figures.
"""

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil
import psycopg
from psycopg.conninfo import conninfo_to_dict

from todo_api.postgres import embedded, migrations

from . import answers, chart, plans
from .distance import Distance
from .service import COMMAND, Service, serving

OPERATIONS = ("get", "list", "create", "update", "toggle")
PROCESSORS = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
SCRIPT = Path(__file__).with_suffix(".lua")
PEERS = {
    "bare ASGI, psycopg_pool": "asgi_psycopg.py",
    "FastAPI, asyncpg": "fastapi_asyncpg.py",
    "FastAPI, SQLModel": "fastapi_sqlmodel.py",
    "Fastify, postgres.js": "fastify.js",
}

ADD_USERS = "insert into users (email) select format('user%s@example.org', n) from generate_series(1, 1000) n"
ADD_TASKS = """
insert into tasks (user_id, title, description)
select id, format('Task number %s', n), 'A description of the task, about as long as people write'
from users, generate_series(1, 20) n
"""
A_TASK_OF_EACH = "select distinct on (user_id) user_id, id from tasks"

# Besides the user whom tests.plans gives 1,000,000 tasks, 0@example.org.
ADD_SMALL = """
with owner as (insert into users (email) values ('small@example.org') returning id)
insert into tasks (user_id, title, description)
select owner.id, format('Task number %s of many', n), case when n % 2 = 0 then repeat('lorem ipsum ', 5) end
from owner, generate_series(1, 1000) n
"""
A_TASK_OF_ONE = """
select user_id, id from tasks where user_id = (select id from users where email = %s)
order by id desc offset %s limit 1
"""


class Load(NamedTuple):
    """Requests a second, milliseconds until the answer, and what it takes.

    That is CPU microseconds a request, of the server and of PostgreSQL, and the server's memory in MiB.
    """

    rate: float
    least: float
    median: float
    p99: float
    cpu: float
    database: float
    memory: float


def pin(processor: int) -> None:
    """Keep this thread, and what it starts from now on, to the first processor or to the second."""
    if len(PROCESSORS) > 1:
        os.sched_setaffinity(0, {PROCESSORS[processor]})


@contextmanager
def service(directory: Path, url: str, **how: Any) -> Iterator[Service]:
    """The service, or one that is started otherwise, on a processor of its own."""
    pin(0)
    how = {"command": [*COMMAND, "serve"]} | how | {"DATABASE_URL": url, "ACCESS_LOG": "false"}
    with serving(directory, **how) as running:
        pin(1)
        yield running


def family(running: Service) -> list[psutil.Process]:
    """The server's processes. The last one serves; uv, which starts it, stays until it ends."""
    process = psutil.Process(running.process.pid)
    return [process, *process.children(recursive=True)]


def used(running: Service) -> tuple[float, float]:
    """The CPU seconds that the server and PostgreSQL have used, with processes of theirs that have ended."""
    of_server = family(running)
    server = database = 0.0
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            seconds = sum(process.cpu_times()[:4])
            if process in of_server:
                server += seconds
            elif process.name() == "postgres":
                database += seconds
    return server, database


def drive(running: Service, operation: str, tasks: Path, seconds: int, clients: int = 32) -> Load:
    """Send it one kind of request for so long; the program ends if one of them fails."""
    before = used(running)
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "-s", str(SCRIPT), running.url, "--"]
    printed = subprocess.run([*command, operation, str(tasks)], capture_output=True, text=True, check=True)
    after = used(running)
    requests, duration, least, middle, p99, failures = map(float, printed.stdout.splitlines()[-1].split())
    if failures or not requests:
        sys.exit(f"{operation}: {failures:.0f} of {requests:.0f} requests failed.\n{running.log}")
    cpu, database = (1e6 * (end - start) / requests for start, end in zip(before, after, strict=True))
    memory = family(running)[-1].memory_info().rss / 2**20
    return Load(requests / duration * 1e6, least / 1e3, middle / 1e3, p99 / 1e3, cpu, database, memory)


def note(path: Path, rows: Iterable[tuple[object, ...]]) -> Path:
    """Write down whose tasks and which to ask for."""
    path.write_text("".join(f"{user} {task}\n" for user, task in rows))
    return path


def fill(connection: psycopg.Connection, tasks: Path) -> None:
    """Begin anew with 1000 users of 20 tasks each, and write down a task of each."""
    connection.execute("truncate users, tasks")
    connection.execute(ADD_USERS)
    connection.execute(ADD_TASKS)
    connection.execute("vacuum (analyze) users, tasks")
    connection.execute("checkpoint")
    note(tasks, connection.execute(A_TASK_OF_EACH))


def speed(directory: Path, url: str, tasks: Path, given: argparse.Namespace) -> Iterator[str]:
    """Requests a second, what each costs and how long it takes."""
    seconds = given.seconds
    with service(directory, url) as running:
        resting = family(running)[-1].memory_info().rss / 2**20
        loads = {}
        for operation in OPERATIONS:
            plans.tell(f"{operation}: {seconds} s")
            drive(running, operation, tasks, 1)
            loads[operation] = drive(running, operation, tasks, seconds)
        yield f"{'':8}{'requests/s':>12}{'CPU µs':>8}{'p50 ms':>8}{'p99 ms':>8}"
        for operation, load in loads.items():
            yield f"{operation:8}{load.rate:12,.0f}{load.cpu:8.0f}{load.median:8.2f}{load.p99:8.2f}"
        scale = 60 / max(load.rate for load in loads.values())
        yield ""
        for operation, load in loads.items():
            yield f"{operation:8}{'█' * round(load.rate * scale)} {load.rate:,.0f}"
        yield f"\nMemory: {resting:.0f} MiB at rest, {load.memory:.0f} MiB afterwards"


def servers(directory: Path, url: str) -> dict[str, dict[str, Any]]:
    """How to start the service and its peers. What a peer needs is installed from what its file names."""
    near = conninfo_to_dict(url)
    names = {"PGHOST": "host", "PGPORT": "port", "PGUSER": "user", "PGDATABASE": "dbname"}
    node = directory / "node"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    environment |= {variable: str(near[name]) for variable, name in names.items()}
    environment |= {"NODE_PATH": str(node / "node_modules")}
    uv = [str(Path(sys.executable).with_name("uv")), "run", "--quiet", "--python", sys.executable, "--script"]
    found: dict[str, dict[str, Any]] = {"todo-api": {}}
    for name, file in PEERS.items():
        path = Path(__file__).parent / "peers" / file
        command = [*uv, str(path)]
        if path.suffix == ".js":
            if not shutil.which("npm"):
                plans.tell(f"{name} is left out: there is no npm")
                continue
            _, _, *install = path.read_text().splitlines()[0].split()
            subprocess.run(["npm", *install, "--silent", "--prefix", str(node)], check=True)
            command = ["node", str(path)]
        found[name] = {"command": command, "ready": "running on http", **environment}
    return found


def compare(directory: Path, url: str, tasks: Path, given: argparse.Namespace) -> Iterator[str]:
    """The same beside other services with the same operations, which answer alike."""
    started = servers(directory, url)
    with psycopg.connect(url, autocommit=True) as connection:
        for name, how in started.items():
            plans.tell(f"{name}: its answers")
            with service(directory, url, **how) as running, httpx.Client(base_url=running.url) as client:
                faults = list(answers.faults(client, connection, *tasks.read_text().split()[:2]))
            if faults:
                sys.exit("\n".join((f"{name} does not answer as the service does:", *faults)))
        loads: dict[str, dict[str, list[Load]]] = {
            what: {name: [] for name in started} for what in OPERATIONS
        }
        for turn in range(given.rounds):
            for name, how in started.items():
                fill(connection, tasks)
                with service(directory, url, **how) as running:
                    for operation in OPERATIONS:
                        plans.tell(f"round {turn + 1} of {given.rounds}, {name}, {operation}")
                        drive(running, operation, tasks, 2)
                        loads[operation][name].append(drive(running, operation, tasks, given.seconds))
        versions = [f"PostgreSQL {connection.info.parameter_status('server_version')}"]
    if shutil.which("node"):
        node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
        versions.append(f"Node {node.stdout.strip()}")
    times = f"{given.rounds} x {given.seconds} s for each operation"
    figures = {
        "how": f"{times}, on {machine()}; {', '.join(versions)}.",
        "operations": {
            operation: {
                name: Load(*map(statistics.median, zip(*turns, strict=True)))._asdict()
                for name, turns in of_each.items()
            }
            for operation, of_each in loads.items()
        },
    }
    given.to.mkdir(exist_ok=True)
    path = given.to / "benchmark.json"
    path.write_text(json.dumps(figures, indent=1) + "\n")
    yield chart.publish(path)


def round_trips(directory: Path, url: str, tasks: Path, given: argparse.Namespace) -> Iterator[str]:
    """How often each operation waits for a far database, and what a pool of 4 then gives 64 clients."""
    seconds = given.seconds
    distance = Distance(url)
    with service(directory, distance.url, POOL_MAX_SIZE="4") as running:
        yield "           least ms where a trip takes                64 clients   times what 4 connections"
        yield "             0 ms    20 ms   round trips          at 5 ms, /s     taking turns would give"
        for operation in OPERATIONS:
            loads = []
            for milliseconds, clients in ((0, 1), (20, 1), (5, 64)):
                plans.tell(f"{operation}: {milliseconds} ms away, {clients} at a time, {seconds} s")
                distance.delay = milliseconds / 2000
                loads.append(drive(running, operation, tasks, seconds, clients))
            near, far, rate = loads[0].least, loads[1].least, loads[2].rate
            trips, gain = (far - near) / 20, rate / (4 / 0.005)
            yield f"{operation:8}{near:9.2f}{far:9.2f}{trips:14.2f}{rate:20,.0f}{gain:28.1f}"


def growth(directory: Path, url: str, tasks: Path, given: argparse.Namespace) -> Iterator[str]:
    """What a page of 100 and a point read take among few tasks and among many, at best of several turns."""
    turns = 3 * given.seconds
    with service(directory, url) as running, psycopg.connect(url, autocommit=True) as connection:
        few = [drive(running, "get", tasks, 1, clients=1).median for _ in range(turns)]
        plans.load(connection)
        connection.execute(ADD_SMALL)
        everybody = note(directory / "everybody", connection.execute(A_TASK_OF_EACH))
        small = note(directory / "small", connection.execute(A_TASK_OF_ONE, ("small@example.org", 899)))
        great = note(directory / "great", connection.execute(A_TASK_OF_ONE, ("0@example.org", 99_899)))
        cases = {
            "point read among 5,000,000": ("get", everybody),
            "first page of 1,000": ("list", small),
            "first page of 1,000,000": ("list", great),
            "10th page of 1,000": ("page_behind", small),
            "1000th page of 1,000,000": ("page_behind", great),
        }
        taken: dict[str, list[float]] = {"point read among 20,000": few} | {what: [] for what in cases}
        for turn in range(turns):
            plans.tell(f"turn {turn + 1} of {turns}")
            for what, (operation, where) in cases.items():
                taken[what].append(drive(running, operation, where, 1, clients=1).median)
        for what, times in taken.items():
            yield f"{what:28}{min(times):6.2f} ms"


def machine() -> str:
    """What it was measured on, and what was taken from it since ``cpu_times_percent`` was last called."""
    models = Path("/proc/cpuinfo").read_text() if sys.platform == "linux" else ""
    model = (re.findall(r"model name\s*: (.+)", models) or [platform.machine()])[0]
    stolen = getattr(psutil.cpu_times_percent(), "steal", 0.0)
    system = f"{os.cpu_count()} processors ({model}), {platform.system()}, Python {platform.python_version()}"
    return f"{system}; the host kept {stolen:.0f} % of the processors' time for others"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    what = parser.add_mutually_exclusive_group()
    for option, measure in (("--peers", compare), ("--rtt", round_trips), ("--growth", growth)):
        what.add_argument(option, dest="measure", action="store_const", const=measure, help=measure.__doc__)
    parser.add_argument("--seconds", type=int, default=5, help="how long each step takes (default: 5)")
    parser.add_argument("--rounds", type=int, default=3, help="how often --peers begins anew (default: 3)")
    to = "where --peers writes figures and chart; a benchmark.md there is updated (default: dist)"
    parser.add_argument("--to", type=Path, default=Path("dist"), help=to)
    parser.set_defaults(measure=speed)
    given = parser.parse_args()
    if not shutil.which("wrk"):
        sys.exit("The load comes from wrk: apt-get install wrk, or brew install wrk.")
    psutil.cpu_times_percent()
    pin(1)
    settings = plans.SERVER if given.measure is growth else {}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = stack.enter_context(embedded.running(directory / "postgresql", settings=settings))
        migrations.apply(url, plans.tell)
        with psycopg.connect(url, autocommit=True) as connection:
            fill(connection, tasks := directory / "tasks")
        lines = []
        for line in given.measure(directory, url, tasks, given):
            sys.stdout.write(line + "\n")
            lines.append(line)
    if given.measure is not compare:
        lines.append(machine())
        sys.stdout.write(f"\n{lines[-1]}\n")
    if given.measure is speed:
        chart.insert(given.to / "benchmark.md", "service alone", "\n".join(("```", *lines, "```")))


if __name__ == "__main__":
    main()
