"""The README's session, typed as it stands; its table of settings; and the links of every page."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from todo_api.http.problems import ARRIVAL_LIMIT, BODY_LIMIT, HEAD_LIMIT
from todo_api.postgres.keeper import LOG_LIMIT
from todo_api.server.addresses import STALL_LIMIT
from todo_api.settings import Settings

from .service import ROOT

README = (ROOT / "README.md").read_text()
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]


# What the pages say of numbers that stand in the code.
NUMBERS = {
    "SECURITY.md": [
        f"at most {HEAD_LIMIT // 1024} KiB each (431, 413)",
        f"a request has {ARRIVAL_LIMIT} seconds to arrive (408)",
        f"taken nothing of its response for {STALL_LIMIT} seconds",
    ],
    "docs/operations.md": [f"takes {HEAD_LIMIT // 1024} KiB of head and {BODY_LIMIT // 1024} KiB of body"],
    "docs/database.md": [
        f"when it exceeds {LOG_LIMIT // 1_000_000} MB",
        f"set statement_timeout = '{Settings().statement_timeout:g}s'",
        f"set lock_timeout = '{Settings().lock_timeout:g}s'",
    ],
    ".env.example": [
        f"set statement_timeout = '{Settings().statement_timeout:g}s'",
        f"set lock_timeout = '{Settings().lock_timeout:g}s'",
    ],
    "migrations/post-apply.sql": [
        f"('statement_timeout', '{Settings().statement_timeout:g}s')",
        f"('lock_timeout', '{Settings().lock_timeout:g}s')",
    ],
}


def outline(value: Any) -> Any:
    """An answer without what differs from one run to the next."""
    if isinstance(value, list):
        return [outline(each) for each in value]
    changing = ("id", "user_id", "created_at", "updated_at", "instance", "request_id")
    return {name: "…" if name in changing else each for name, each in value.items()}


def test_the_session_answers_as_shown(server: str) -> None:
    """A shell that gets the block of commands prints what the block below it shows, each time."""
    [commands] = re.findall(r"```sh\n(.*?)```", README, re.S)
    [shown] = re.findall(r"```json\n(.*?)```", README, re.S)
    commands = commands.replace("http://127.0.0.1:8000", server)
    for _ in range(2):
        run = subprocess.run(["sh", "-c", commands], capture_output=True, text=True, timeout=60, check=True)
        printed = [outline(json.loads(line)) for line in run.stdout.splitlines()]
        assert [outline(json.loads(line)) for line in shown.splitlines()] == printed


def test_the_table_has_each_setting_with_its_default() -> None:
    """The same as .env.example, which test_settings.py compares with the settings."""
    example = re.findall(r"^#([A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.M)
    assert example == re.findall(r"^\| `([A-Z_]+)` \| (?:`(.*?)`)?[^`|]* \| .+ \|$", README, re.M)


@pytest.mark.parametrize("page", NUMBERS)
def test_the_numbers_of_a_page_are_those_of_the_code(page: str) -> None:
    """Head and body have one limit on the pages; the role's time-outs are the service's defaults."""
    assert HEAD_LIMIT == BODY_LIMIT
    text = (ROOT / page).read_text()
    assert [] == [sentence for sentence in NUMBERS[page] if sentence not in text]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_link_leads_somewhere(page: Path) -> None:
    """To a file or directory of the repository, and to a heading of it."""
    prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    for link in re.findall(r'\]\(([^)\s]+)\)|(?:src|srcset)="([^"]+)"', prose):
        target, _, heading = "".join(link).partition("#")
        if target.startswith("http"):
            continue
        file = page.parent / target if target else page
        assert file.exists(), link
        if heading:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.M)
            assert heading in [re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings]
