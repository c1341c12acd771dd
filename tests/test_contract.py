"""The table of promises in tests/README.md."""

import ast
import re

from .service import ROOT


def test_each_promise_has_tests_that_exist() -> None:
    """A test that is renamed or removed is missed where the table names it."""
    promises = (ROOT / "tests/README.md").read_text().partition("\n## What happens if")[0]
    rows = re.findall(r"^\| ([^*|]+) \| (.*) \|$", promises, re.MULTILINE)
    named = [re.findall(r"`(test_\w+)::(test_\w+)`", tests) for _, tests in rows[2:]]
    assert len(named) > 60 and all(named)
    existing = {
        (path.stem, node.name)
        for path in (ROOT / "tests").glob("test_*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert set() == {test for tests in named for test in tests} - existing
