"""The README's session, typed as it stands; its table of settings; and the links of every page."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .service import ROOT

README = (ROOT / "README.md").read_text()
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]


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
