"""Clients that were made from the document, and the programs of docs/clients.md, against the service.

The directory CLIENT_TOOLS has the generators and linters: `.ci/client-tools` installs them.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from .api import User
from .examples import operations
from .service import ROOT
from .test_patterns import ODD, patterns

TOOLS = Path(os.environ.get("CLIENT_TOOLS", "/nowhere"))
PAGE = (ROOT / "docs" / "clients.md").read_text()
DOCUMENT = ROOT / "tests" / "openapi.json"


def needs(*programs: str) -> pytest.MarkDecorator:
    """Skip a test unless each program is installed: by name on PATH, or by path in CLIENT_TOOLS."""
    missing = [name for name in programs if not shutil.which(TOOLS / name if "/" in name else name)]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


PYTHON, NODE = "bin/python", "node_modules/.bin"


def snippets(language: str) -> list[str]:
    """The blocks of docs/clients.md in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.S | re.M)


CURL, GENERATE_PYTHON, GENERATE_TYPES = snippets("sh")
HTTPX, GENERATED = snippets("python")
[TYPESCRIPT], [JAVA], [PRINTED] = map(snippets, ["ts", "java", "text"])


def run(directory: Path, server: str, *command: str | Path) -> str:
    """Run a program to its end, as the page says, and return what it printed."""
    path = f"{TOOLS}/bin:{TOOLS}/node_modules/.bin:{os.environ['PATH']}"
    ended = subprocess.run(
        command,
        cwd=directory,
        env={"PATH": path, "HOME": str(directory), "TODO_API": server},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert 0 == ended.returncode, ended.stdout + ended.stderr
    return ended.stdout


@needs("curl", "jq")
def test_the_session_in_curl(tmp_path: Path, server: str) -> None:
    """A shell runs the page's commands."""
    assert PRINTED == run(tmp_path, server, "sh", "-euc", CURL)


@needs(PYTHON)
def test_the_session_with_httpx(tmp_path: Path, server: str) -> None:
    """Plain httpx."""
    assert PRINTED == run(tmp_path, server, TOOLS / PYTHON, "-c", HTTPX)


@needs(PYTHON, "bin/openapi-python-client")
def test_the_session_in_generated_python(tmp_path: Path, server: str) -> None:
    """openapi-python-client leaves no operation out, and its types are right."""
    output = run(tmp_path, server, "sh", "-euc", GENERATE_PYTHON)
    assert "Unsupported" not in output and "WARNING parsing" not in output
    assert PRINTED == run(tmp_path, server, TOOLS / PYTHON, "-c", GENERATED)
    made = {file.stem for file in tmp_path.glob("todo_client/api/*/[a-z]*.py")}
    names = [operation["operationId"] for _, _, operation in operations(json.loads(DOCUMENT.read_text()))]
    assert {re.sub("([A-Z])", r"_\1", name).lower() for name in names} == made


@needs("node", f"{NODE}/tsc", f"{NODE}/openapi-typescript")
def test_the_session_in_typescript(tmp_path: Path, server: str) -> None:
    """openapi-typescript's types pass `tsc --strict`, and openapi-fetch calls the service by them."""
    (tmp_path / "node_modules").symlink_to(TOOLS / "node_modules")
    (tmp_path / "session.mts").write_text(TYPESCRIPT)
    assert PRINTED == run(tmp_path, server, "sh", "-euc", GENERATE_TYPES).rpartition("s]\n")[2].lstrip("\n")


@needs("javac")
def test_the_session_in_java(tmp_path: Path, server: str) -> None:
    """The standard library of Java 17, whose client offers an upgrade to HTTP/2."""
    (tmp_path / "Session.java").write_text(JAVA)
    assert PRINTED == run(tmp_path, server, "java", "Session.java")


@needs(f"{NODE}/spectral", "node")
def test_spectral_finds_nothing(tmp_path: Path) -> None:
    """The `oas` ruleset, its warnings and hints included."""
    (tmp_path / ".spectral.yaml").write_text("extends: spectral:oas\n")
    run(tmp_path, "", "spectral", "lint", "--fail-severity", "hint", DOCUMENT)


@needs(PYTHON)
def test_the_document_is_valid(tmp_path: Path) -> None:
    """By openapi-spec-validator, which reads it as YAML."""
    run(tmp_path, "", TOOLS / PYTHON, "-m", "openapi_spec_validator", DOCUMENT)


@needs(PYTHON)
def test_every_pattern_is_one_of_re2(tmp_path: Path) -> None:
    """RE2 compiles each, and matches what Python matches: odd characters alone, inside and last."""
    cases = [
        (
            pattern,
            text.format(character),
            bool(re.search(pattern.removesuffix("$") + r"\Z", text.format(character))),
        )
        for pattern in sorted(patterns(json.loads(DOCUMENT.read_text())))
        for character in ODD
        for text in ("{}", "a{}b", "a@b{}", '"a{}"')
    ]
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    program = """if 1:
        import json, re2
        cases = json.load(open("cases.json"))
        print([case for case in cases if bool(re2.search(case[0], case[1])) != case[2]])
        """
    assert "[]\n" == run(tmp_path, "", TOOLS / PYTHON, "-c", program)


@needs("promtool")
def test_prometheus_takes_the_alert_rules(tmp_path: Path) -> None:
    """And each names a metric that the service has."""
    rules = ROOT / "docs" / "alerts.yml"
    assert "SUCCESS" in run(tmp_path, "", "promtool", "check", "rules", rules)


async def test_the_alert_rules_name_metrics_of_the_service(ada: User) -> None:
    """No alert waits for a series that does not exist."""
    await ada.lists()
    metrics = (await ada.client.get("/metrics")).text
    expressions = re.findall(r"expr: (.*(?:\n {10}.*)*)", (ROOT / "docs" / "alerts.yml").read_text())
    names = {name for each in expressions for name in re.findall(r"\b(?:http|database)_\w+", each)}
    assert len(names) > 4
    assert [] == [name for name in names if not re.search(rf"^(# TYPE )?{name}\b", metrics, re.M)]
