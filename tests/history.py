"""Clients change a few tasks while everything breaks; then their history is checked, as Jepsen does.

``python -m tests.history --minutes 10`` runs it for long. A trigger notes each version of a task in the
transaction that makes it, so the checker knows the whole truth and not only what some client saw.
"""

import argparse
import random
import signal
import sys
import tempfile
import threading
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import cycle, pairwise
from pathlib import Path
from typing import Literal, NamedTuple
from uuid import uuid4

import httpx
import psutil
import psycopg

from .engines import answers
from .outage import CUT, Server
from .service import Service, serving
from .waiting import wait_until

CLIENTS, TASKS = 8, 3

# Seconds that a request may take, and a statement on the server: shorter than by default.
TIMEOUT = 2.5
LIMITS = {"POOL_TIMEOUT": f"{TIMEOUT}", "STATEMENT_TIMEOUT": "2", "LOCK_TIMEOUT": "1"}

Kind = Literal["read", "toggle", "put", "change"]
Outcome = Literal["done", "refused", "timed out", "unknown"]

AUDIT = """
create table versions (task text, updated_at timestamptz, title text, completed boolean);
create function note_version() returns trigger language plpgsql security definer as $$
begin
    insert into versions values (new.id, new.updated_at, new.title, new.completed);
    return new;
end $$;
create trigger note_version after insert or update on tasks for each row execute function note_version();
"""


class Version(NamedTuple):
    """What a task was from one change to the next. ``at`` is its updated_at, in seconds since 1970."""

    at: float
    title: str
    completed: bool


class Operation(NamedTuple):
    """What a client did and was told. A put has a title of its own; a change moreover names its ``base``."""

    kind: Kind
    began: float
    ended: float
    outcome: Outcome
    seen: Version | None = None
    title: str = ""
    base: float | None = None


def violations(versions: Sequence[Version], operations: Sequence[Operation]) -> Iterator[str]:
    """What in the history of one task cannot be, one sentence each. ``versions`` are all that there were."""
    before = dict(zip(versions[1:], versions, strict=False))
    for one, next_ in pairwise(versions):
        if one.at >= next_.at:
            yield f"{next_} is not later than {one}"
    known = set(versions)
    claimed = Counter(o.seen for o in operations if o.outcome == "done" and o.kind != "read")
    for operation in operations:
        match operation:
            case Operation(outcome="done", seen=None):
                yield f"{operation} was done, and nothing came back"
            case Operation(outcome="done", seen=seen) if seen not in known:
                yield f"{operation} saw what never was"
            case Operation(outcome="done", kind="toggle", seen=Version() as seen):
                was = before.get(seen)
                if was is None or (was.title, not was.completed) != (seen.title, seen.completed):
                    yield f"{operation} does not follow from {was}"
            case Operation(outcome="done", kind="put" | "change", seen=Version() as seen):
                was = before.get(seen)
                if was is None or (operation.title, was.completed) != (seen.title, seen.completed):
                    yield f"{operation} does not follow from {was}"
                elif operation.base is not None and was.at != operation.base:
                    yield f"{operation} was not based on the version that it named, but on {was}"
            case Operation(outcome="refused", base=base, ended=ended) if base is not None:
                if not any(base < version.at <= ended for version in versions):
                    yield f"{operation} was refused without a reason"
    yield from _writes_not_told(versions, operations, claimed)
    yield from _steps_back(operations)


def _writes_not_told(
    versions: Sequence[Version], operations: Sequence[Operation], claimed: Counter[Version | None]
) -> Iterator[str]:
    """A version has one writer: one who was told so, or one who was told nothing."""
    unknown = [o for o in operations if o.outcome == "unknown" and o.kind != "read"]
    titles = {o.title for o in unknown}
    toggles = sum(o.kind == "toggle" for o in unknown)
    yield from (f"{count} clients made {version}" for version, count in claimed.items() if count > 1)
    for was, version in pairwise(versions):
        if version in claimed:
            continue
        if version.title == was.title:
            toggles -= 1
            if toggles < 0:
                yield f"nobody can have toggled to {version}"
        elif version.title not in titles:
            yield f"nobody can have written {version}"


def _steps_back(operations: Sequence[Operation]) -> Iterator[str]:
    """What began after another had ended sees the same version or a later one; a write makes a later one."""
    done = sorted(
        ((o.ended, o.seen.at) for o in operations if o.outcome == "done" and o.seen), key=lambda each: each[0]
    )
    ends, newest = [end for end, _ in done], [0.0]
    for _, at in done:
        newest.append(max(newest[-1], at))
    for operation in operations:
        if operation.outcome == "done" and operation.seen:
            known = newest[bisect_left(ends, operation.began)]
            if operation.seen.at < known or (operation.seen.at == known and operation.kind != "read"):
                yield f"{operation} is older than what was seen before"


class Clients:
    """Threads that read and change the tasks of one user, each on connections of its own."""

    def __init__(self, url: str) -> None:
        user = httpx.post(f"{url}/api/users", json={"email": f"{uuid4().hex}@example.org"}).json()["id"]
        self.url, self.path = url, f"{url}/api/{user}/tasks"
        self.tasks = [httpx.post(self.path, json={"title": "first"}).json()["id"] for _ in range(TASKS)]
        self.operations: dict[str, list[Operation]] = defaultdict(list)
        self.odd: Counter[str] = Counter()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._live, args=[seed]) for seed in range(CLIENTS)]

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def heals(self) -> float:
        """How many seconds it takes from now until a read is answered."""
        began = time.monotonic()
        while True:
            try:
                if httpx.get(f"{self.path}/{self.tasks[0]}", timeout=60).status_code == 200:
                    return time.monotonic() - began
            except httpx.TransportError:
                time.sleep(0.01)

    def _live(self, seed: int) -> None:
        chance = random.Random(seed)
        seen: dict[str, float] = {}
        while not self._over.is_set():
            with httpx.Client(timeout=60) as client:  # a connection that broke ends with its client
                while not self._over.is_set():
                    task = chance.choice(self.tasks)
                    kind: Kind = chance.choice(["read", "read", "toggle", "put", "change"])
                    operation = self._does(client, kind, task, seen.get(task))
                    self.operations[task].append(operation)
                    if operation.seen:
                        seen[task] = operation.seen.at
                    if operation.outcome == "unknown":
                        time.sleep(0.02)
                        break
                    time.sleep(0.02)  # or the clients alone would keep the machine busy

    def _does(self, client: httpx.Client, kind: Kind, task: str, base: float | None) -> Operation:
        url, title = f"{self.path}/{task}", uuid4().hex if kind in ("put", "change") else ""
        if kind != "change":
            base = None
        tag = {} if base is None else {"If-Match": f'"{_text(base)}"'}
        began = time.time()
        try:
            if kind == "read":
                answer = client.get(url)
            elif kind == "toggle":
                answer = client.patch(f"{url}/complete")
            else:
                answer = client.put(url, json={"title": title}, headers=tag)
        except httpx.TransportError:
            return Operation(kind, began, time.time(), "unknown", None, title, base)
        ended, body = time.time(), answer.json()
        outcome, version = self._outcome(answer, body), None
        if outcome == "done":
            version = Version(_seconds(body["updated_at"]), body["title"], body["completed"])
        return Operation(kind, began, ended, outcome, version, title, base)

    def _outcome(self, answer: httpx.Response, body: Mapping[str, str]) -> Outcome:
        match answer.status_code, body.get("type"):
            case 200, _:
                return "done"
            case 412, "/problems/task-changed":
                return "refused"
            case 503, "/problems/timed-out":
                return "timed out"
            case 503, _:
                return "unknown"
        self.odd[f"{answer.status_code} {body}"] += 1
        return "unknown"


# Microseconds since 1970 fit into a float to the microsecond until the year 2255.
def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def _text(seconds: float) -> str:
    return datetime.utcfromtimestamp(seconds).isoformat(timespec="microseconds") + "Z"


@contextmanager
def audited(server: Server, directory: Path, **variables: str) -> Iterator[Service]:
    """Run the service, with two workers unless told otherwise, on a server that notes the tasks' versions."""
    variables = {"DATABASE_URL": server.url, "WORKERS": "2", "ACCESS_LOG": "false", **LIMITS, **variables}
    serve = serving(directory, "--migrate", **variables)
    with serve as service, psycopg.connect(server.url) as connection:
        connection.execute(AUDIT)
        connection.commit()
        yield service


def faults(server: Server, clients: Clients) -> list[str]:
    """Everything that is wrong with the history of the clients. While they go on, new ones seem wrong."""
    found = [f"{count} x {odd}" for odd, count in clients.odd.items()]
    with psycopg.connect(server.url) as connection:
        for task in clients.tasks:
            rows = connection.execute(
                "select updated_at, title, completed from versions where task = %s order by updated_at",
                [task],
            )
            versions = [Version(at.timestamp(), *rest) for at, *rest in rows]
            found += violations(versions, clients.operations[task][:])
    return found


def cut(server: Server, _service: Service) -> None:
    """End every session every 10 ms for 2 s."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        for _ in range(150):
            connection.execute(CUT)
            time.sleep(0.01)


def restart(server: Server, _service: Service) -> None:
    """Stop PostgreSQL in the fast mode, and start it."""
    server.stop()
    server.start()


def crash(server: Server, _service: Service) -> None:
    """Kill all of PostgreSQL, and start it."""
    server.kill()
    server.start()


def freeze(server: Server, _service: Service) -> None:
    """Stop all of PostgreSQL's processes for longer than a request may take."""
    server.signal(signal.SIGSTOP)
    time.sleep(TIMEOUT + 1)
    server.signal(signal.SIGCONT)


def kill_backend(server: Server, _service: Service) -> None:
    """Kill one session, upon which PostgreSQL ends all of them and recovers."""
    with psycopg.connect(server.url) as connection:
        psutil.Process(connection.info.backend_pid).kill()
    wait_until(lambda: answers(server.url))


def lock(server: Server, _service: Service) -> None:
    """Lock the table for longer than a request may take."""
    with psycopg.connect(server.url) as connection:
        connection.execute("lock table tasks")
        time.sleep(TIMEOUT + 0.5)


def kill_worker(_server: Server, service: Service) -> None:
    """Kill one of the two workers, and wait until it is replaced."""
    random.choice(service.workers).kill()
    time.sleep(1)


Sabotage = Callable[[Server, Service], None]
SABOTAGES: tuple[Sabotage, ...] = (cut, restart, kill_worker, freeze, kill_backend, lock, crash)


def run(
    directory: Path, server: Server, sabotages: Iterable[Sabotage]
) -> tuple[list[str], dict[str, float], int]:
    """Return what was wrong, the longest time to heal from each sabotage, and the number of operations."""
    healed: dict[str, float] = {}
    with audited(server, directory) as service:
        with Clients(service.url) as clients:
            for sabotage in sabotages:
                time.sleep(0.5)
                sabotage(server, service)
                took = clients.heals()
                healed[sabotage.__name__] = max(took, healed.get(sabotage.__name__, 0))
            time.sleep(0.5)
        found = faults(server, clients)
    return found, healed, sum(map(len, clients.operations.values()))


def main() -> None:
    """Run for long, and exit with 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.history", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    end = time.monotonic() + 60 * parser.parse_args().minutes

    def until_the_end() -> Iterator[Sabotage]:
        for sabotage in cycle(SABOTAGES):
            if time.monotonic() > end:
                return
            yield sabotage

    with tempfile.TemporaryDirectory(prefix="todo-", dir="/tmp") as directory:
        server = Server(Path(directory, "own"), Path(directory, "address"))
        server.start()
        found, healed, operations = run(Path(directory), server, until_the_end())
        server.stop()
    print(f"{operations} operations, {len(found)} violations")
    for name, seconds in healed.items():
        print(f"{name}: healed within {seconds:.2f} s")
    print(*found[:20], sep="\n")
    sys.exit(bool(found) or max(healed.values()) > 2)


if __name__ == "__main__":
    main()
