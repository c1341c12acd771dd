"""Changes the code in one place at a time, and reports which changes no test notices: ``make mutants``.

Each change is made in a copy of the tree. The test modules that concern the changed file run first, and the
rest only if they pass. A change that passes all of them survives: a test is missing, or the code does nothing
that anybody notices. Equivalent changes are left out; ``tests/README.md`` lists them with their reasons.

mutmut and cosmic-ray change Python only. Here much of what may break is SQL.
"""

import argparse
import ast
import copy
import importlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from fnmatch import fnmatch
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
CHANGED = ["todo_api", "sql", "migrations"]
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", ".*_cache", "__pycache__", "dist")

# The copies of this run. Worker processes inherit it.
NAMED = f"todo-mutant-{os.getpid()}-"

# Which test modules concern a file, most likely first.
FIRST = {
    "todo_api/postgres/pipeline.py": "pipeline connections stalls sabotage",
    "todo_api/postgres/connections.py": "connections pipeline stalls sabotage metrics faults",
    "todo_api/postgres/database.py": "pipeline connections idempotency problems explain sessions",
    "todo_api/postgres/conninfo.py": "sessions environments",
    "todo_api/postgres/startup.py": "start environments sessions database_page",
    "todo_api/postgres/migrations.py": "migrate roles health environments",
    "todo_api/postgres/errors.py": "start environments migrate explain",
    "todo_api/postgres/explain.py": "explain",
    "todo_api/postgres/embedded.py": "embedded_failures embedded embedded_data embedded_ends main",
    "todo_api/postgres/*.py": "embedded_failures embedded embedded_data embedded_ends",
    "todo_api/queries.py": "queries tasks idempotency",
    "todo_api/resources/users.py": "users idempotency openapi",
    "todo_api/resources/tasks/payloads.py": "openapi listing tasks",
    "todo_api/resources/tasks/versions.py": "idempotency preconditions",
    "todo_api/resources/tasks/*": "queries preconditions tasks idempotency listing",
    "todo_api/resources/*": "problems users tasks openapi",
    "todo_api/http/answers.py": "preconditions tasks sockets",
    "todo_api/http/bodies.py": "bodies media_types tasks sockets openapi",
    "todo_api/http/cors.py": "cors",
    "todo_api/http/errors.py": "problems seam routes logs health tasks",
    "todo_api/http/headers.py": "openapi idempotency headers",
    "todo_api/http/methods.py": "routes media_types openapi",
    "todo_api/http/middleware.py": "headers routes logs metrics",
    "todo_api/http/parameters.py": "openapi listing parameters sockets",
    "todo_api/http/preconditions.py": "openapi preconditions",
    "todo_api/http/problems.py": "problems openapi bodies parameters",
    "todo_api/http/timestamps.py": "users openapi tasks headers",
    "todo_api/http/*": "openapi patterns",
    "todo_api/observability/*": "metrics logs telemetry",
    "todo_api/operations/*": "health documentation_page openapi metrics",
    "todo_api/server/addresses.py": "addresses readme start",
    "todo_api/server/protocol.py": "framing bad_clients sockets deploys",
    "todo_api/server/messages.py": "framing bad_clients",
    "todo_api/server/*": "patience deploys signals start main logs",
    "todo_api/settings.py": "settings",
    "todo_api/__main__.py": "main",
    "todo_api/commands/errors.py": "environments explain main",
    "todo_api/commands/explain.py": "explain",
    "todo_api/commands/migrations.py": "migrate main environments",
    "todo_api/commands/openapi.py": "openapi main",
    "todo_api/commands/pg.py": "main",
    "todo_api/commands/settings.py": "settings main",
    "todo_api/commands/users.py": "main",
    "todo_api/commands/serve.py": "main start metrics environments",
    "todo_api/commands/*": "main migrate environments",
    "todo_api/app.py": "seam routes cors logs openapi pgbouncer metrics telemetry",
    "sql/migrations/*": "migrate health roles",
    "sql/health/*": "health",
    "sql/*": "listing tasks users idempotency preconditions ownership odd_rows main",
    "migrations/post-apply.sql": "database_page roles",
    "migrations/*": "postgres15 migrate roles tasks users odd_rows",
}

INVERSE: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
}  # fmt: skip

IN_SQL = [
    (r"<=", "<"), (r">=", ">"), (r" > ", " >= "), (r" < ", " <= "), (r" = ", " <> "), (r"\band\b", "or"),
    (r"\bor\b", "and"), (r"\bis null", "is not null"), (r"\bis not null", "is null"),
    (r"(?<!is) not null", ""),
    (r"\basc\b", "desc"), (r"\bdesc\b", "asc"), (r"\blower\(", "("), (r"\b[1-9]\d*\b", "77"),
    (r" unique\b", ""), (r"^(?:alter|comment|create|drop|grant|revoke|set) .*;$", ""), (r" cascade", ""),
]  # fmt: skip


class Mutant(NamedTuple):
    """A change of one file: the text from ``start`` to ``end`` becomes ``new``."""

    path: str
    start: int
    end: int
    new: str

    def apply(self, text: str) -> str:
        """The changed text."""
        return text[: self.start] + self.new + text[self.end :]

    @property
    def change(self) -> str:
        """The first line that differs, before and after."""
        text = (ROOT / self.path).read_text()
        lines = zip(text.splitlines(), [*self.apply(text).splitlines(), ""], strict=False)
        return next(
            (f"{old.strip()} → {new.strip()}" for old, new in lines if old.strip() != new.strip()), ""
        )


def of_sql(path: str, text: str) -> Iterator[Mutant]:
    """The changes of an SQL file, outside of its comments."""
    at = 0
    for line in text.splitlines(keepends=True):
        code = line.partition("--")[0].rstrip()
        for pattern, new in IN_SQL:
            for found in re.finditer(pattern, code):
                yield Mutant(path, at + found.start(), at + found.end(), new)
        at += len(line)


def of_python(path: str, text: str) -> Iterator[Mutant]:
    """The changes of a module, outside of its docstrings and annotations."""
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    lines = text.splitlines()

    def at(line: int, column: int) -> int:
        return starts[line - 1] + len(lines[line - 1].encode()[:column].decode())

    def visit(node: ast.AST) -> Iterator[Mutant]:
        if isinstance(node, ast.JoinedStr):
            return
        for place, new in _changes(node):
            code = new if isinstance(new, str) else ast.unparse(new)
            end = at(place.end_lineno or 0, place.end_col_offset or 0)
            yield Mutant(path, at(place.lineno, place.col_offset), end, code)
        for name, value in ast.iter_fields(node):
            if name not in ("annotation", "returns", "decorator_list"):
                for part in value if isinstance(value, list) else [value]:
                    if isinstance(part, ast.AST):
                        yield from visit(part)

    yield from visit(ast.parse(text))


def _changes(node: ast.AST) -> Iterator[tuple[ast.expr | ast.stmt, ast.AST | str]]:
    """What may stand in place of a node, or of a part of it."""
    match node:
        case ast.Constant(value=bool(value)):
            yield node, str(not value)
        case ast.Constant(value=int(value) | float(value)):
            yield node, f"{value + 1}"
            if value > 0:
                yield node, f"{value * 60}"
        case ast.Compare(ops=[op]) if type(op) in INVERSE:
            yield node, _with(node, ops=[INVERSE[type(op)]()])
        case ast.BinOp(op=op) if type(op) in INVERSE and not isinstance(
            node.left, ast.Constant | ast.JoinedStr
        ):
            yield node, f"({ast.unparse(_with(node, op=INVERSE[type(op)]()))})"
        case ast.BoolOp(values=values):
            for left_out in values:
                kept = [value for value in values if value is not left_out]
                yield node, f"({ast.unparse(kept[0] if len(kept) == 1 else _with(node, values=kept))})"
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield node, f"({ast.unparse(operand)})"
        case ast.IfExp(body=body, orelse=orelse):
            yield node, f"({ast.unparse(body)})"
            yield node, f"({ast.unparse(orelse)})"
        case ast.Expr(value=ast.Call() | ast.Await()) | ast.AugAssign() | ast.Raise():
            yield node, "pass"
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield node, "pass"
        case ast.Return(value=ast.expr()):
            yield node, "return None"
        case ast.Call(keywords=keywords) if keywords:
            for keyword in keywords:
                yield node, _with(node, keywords=[each for each in keywords if each is not keyword])
        case ast.Dict(keys=[_, _, *_]):
            for index in range(len(node.keys)):
                keys, values = node.keys[:], node.values[:]
                del keys[index], values[index]
                yield node, _with(node, keys=keys, values=values)
        case ast.Tuple(elts=[ast.Constant(), *_] as each, ctx=ast.Load()) | ast.Set(elts=each) if (
            len(each) > 2
        ):
            for left_out in each:
                yield node, _with(node, elts=[element for element in each if element is not left_out])
        case ast.If(test=test):
            yield test, f"not ({ast.unparse(test)})"
        case ast.With(items=items) | ast.AsyncWith(items=items):
            for item in items:
                if item.optional_vars is None:
                    yield item.context_expr, "__import__('contextlib').nullcontext()"


def _with(node: ast.AST, **fields: object) -> Any:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def equivalents() -> list[re.Pattern[str]]:
    """The file and the change of each that nobody could notice, where ``…`` stands for anything."""
    rows = re.findall(
        r"^\| `([\w./-]+)` \| `(.*→.*)` \|", (ROOT / "tests/README.md").read_text(), re.MULTILINE
    )
    return [re.compile(re.escape(f"{path}: {change}").replace("…", ".*")) for path, change in rows]


def chosen(patterns: list[str], sample: int, seed: int) -> list[Mutant]:
    """So many changes of each file, always the same ones for the same seed and code."""
    equivalent = equivalents()
    found: list[Mutant] = []
    for file in sorted(path for part in CHANGED for path in (ROOT / part).rglob("*")):
        path = file.relative_to(ROOT).as_posix()
        if file.suffix in (".py", ".sql") and any(fnmatch(path, pattern) for pattern in patterns):
            make = of_python if file.suffix == ".py" else of_sql
            mutants = [
                each
                for each in make(path, file.read_text())
                if each.change and not any(known.fullmatch(f"{path}: {each.change}") for known in equivalent)
            ]
            chance = random.Random(f"{seed} {path}")
            found += sorted(chance.sample(mutants, min(sample or len(mutants), len(mutants))))
    return found


def concerning(path: str) -> tuple[list[str], list[str]]:
    """The test modules that run first, and the rest."""
    words = next((names for pattern, names in FIRST.items() if fnmatch(path, pattern)), "").split()
    first = [f"tests/test_{word}.py" for word in words]
    everything = sorted(f"tests/{module.name}" for module in (ROOT / "tests").glob("test_*.py"))
    return first, [module for module in everything if module not in first]


def passes(place: Path, modules: list[str], seconds: float) -> bool:
    """Whether these tests pass in a copy of the tree. They run in a fork, which has the libraries loaded."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setsid()
            with (place / "log").open("wb") as log:
                for descriptor in (1, 2):
                    os.dup2(log.fileno(), descriptor)
            os.chdir(place)
            sys.path[0] = str(place)
            for name in [name for name in sys.modules if name.partition(".")[0] in ("tests", "todo_api")]:
                del sys.modules[name]
            os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # to load them takes longer than many a test
            quiet = ["-x", "-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
            code = pytest.main([*quiet, "-p", "anyio.pytest_plugin", *modules])
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


class Given(NamedTuple):
    """What the command line says."""

    only: list[str]
    sample: int
    seed: int
    jobs: int
    quick: bool
    seconds: float
    list: bool


def tree() -> Path:
    """The copy of the tree that this process changes."""
    place = Path(tempfile.gettempdir()) / f"{NAMED}{os.getpid()}"
    if not place.exists():
        shutil.copytree(ROOT, place, ignore=LEFT_OUT)
    return place


def survives(mutant: Mutant, given: Given) -> bool:
    """Whether every test passes with this change."""
    file, text = tree() / mutant.path, (ROOT / mutant.path).read_text()
    file.write_text(mutant.apply(text))
    first, rest = concerning(mutant.path)
    try:
        return passes(tree(), first, given.seconds) and (
            given.quick or passes(tree(), rest, 10 * given.seconds)
        )
    finally:
        file.write_text(text)


def failure(module: str, seconds: float) -> str:
    """What the tests of a module print if they fail without any change; empty if they pass."""
    return "" if passes(tree(), [module], seconds) else (tree() / "log").read_text()[-2000:]


def serve(count: int) -> None:
    """Print the URLs of so many PostgreSQLs, one for each job, until standard input ends."""
    from .engines import newest, postgresql

    with ExitStack() as servers:
        for _ in range(count):
            server = servers.enter_context(postgresql(newest(), locale="C.UTF-8"))
            print(server.create("test"), flush=True)
        sys.stdin.read()


def take(urls: SimpleQueue[str]) -> None:
    """Give this process a server of its own."""
    os.environ["TEST_DATABASE_URL"] = urls.get()


def main() -> None:
    """Try a sample of changes, and exit with 1 if any survives."""
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__.partition("\n")[0])
    parser.add_argument("only", nargs="*", default=["*"], help="files to change, such as 'sql/*'")
    parser.add_argument("--sample", type=int, default=5, help="changes of each file; 0 for all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time")
    parser.add_argument("--quick", action="store_true", help="run only the tests that concern the file")
    parser.add_argument("--seconds", type=float, default=300, help="after which a run counts as failed")
    parser.add_argument("--list", action="store_true", help="only show the changes")
    given = Given(**vars(parser.parse_args()))
    mutants = chosen(given.only, given.sample, given.seed)
    if given.list:
        print(*(f"{each.path}: {each.change}" for each in mutants), sep="\n")
        return
    for module in ("todo_api.server.processes", "todo_api.observability.traces", "tests.conftest"):
        importlib.import_module(module)  # with all libraries, once for every fork
    tally: dict[str, list[bool]] = defaultdict(list)
    command = [sys.executable, "-c", f"from tests.mutants import serve; serve({given.jobs})"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin and server.stdout
        forking = get_context("fork")
        urls: SimpleQueue[str] = forking.SimpleQueue()
        for _ in range(given.jobs):
            urls.put(server.stdout.readline().strip())
        with ProcessPoolExecutor(given.jobs, forking, take, (urls,)) as pool:
            modules = sorted({module for each in mutants for module in concerning(each.path)[0]})
            failures = pool.map(failure, modules, [given.seconds] * len(modules))
            for module, failed in zip(modules, failures, strict=True):
                if failed:
                    sys.exit(f"{module} fails without any change.\n{failed}")
            for mutant, survived in zip(
                mutants, pool.map(survives, mutants, [given] * len(mutants)), strict=True
            ):
                tally[mutant.path].append(survived)
                if survived:
                    print(f"survived  {mutant.path}: {mutant.change}", flush=True)
        server.stdin.close()
    for path, fates in tally.items():
        print(f"{len(fates) - sum(fates):5} of {len(fates):4} noticed  {path}")
    fates = [fate for each in tally.values() for fate in each]
    print(f"{len(fates) - sum(fates):5} of {len(fates):4} noticed, {1 - sum(fates) / max(len(fates), 1):.0%}")
    for place in Path(tempfile.gettempdir()).glob(f"{NAMED}*"):
        shutil.rmtree(place)
    sys.exit(any(fates))


if __name__ == "__main__":
    main()
