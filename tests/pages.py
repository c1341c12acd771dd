"""The blocks of code on the pages in docs/."""

import re

from .service import ROOT


def block(page: str, heading: str, language: str = "sql", number: int = 0) -> str:
    """The first block of code, or a later one, under a heading of a page in docs/."""
    under = (ROOT / "docs" / page).read_text().partition(f"## {heading}\n")[2]
    return str(re.findall(rf"```{language}\n(.*?)```", under, re.S)[number])
