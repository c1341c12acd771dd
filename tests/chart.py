"""Table and chart of the figures that ``tests.bench --peers`` has saved.

``python -m tests.chart docs/benchmark.json`` makes both again. The chart is an SVG with its own colours, for
light and for dark.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

COLUMNS = {
    "requests/s": ("rate", ",.0f"),
    "server CPU µs": ("cpu", ",.0f"),
    "PostgreSQL CPU µs": ("database", ",.0f"),
    "p50 ms": ("median", ".2f"),
    "p99 ms": ("p99", ".2f"),
    "MiB": ("memory", ".0f"),
}

STYLE = """
.page { fill: #ffffff } .bar { fill: #b6bfc8 } .own { fill: #0969da }
text { fill: #1f2328; font: 13px system-ui, "Segoe UI", Helvetica, Arial, sans-serif }
.title { font-size: 15px; font-weight: 600 } .number { font-size: 12px }
.note { fill: #59636e; font-size: 12px }
@media (prefers-color-scheme: dark) {
  .page { fill: #0d1117 } .bar { fill: #545d68 } .own { fill: #4493f8 }
  text { fill: #f0f6fc } .note { fill: #9198a1 }
}
"""
# In pixels: the names' width, the distance of columns and of rows, the longest bar, the heading's height.
NAMES, COLUMN, ROW, BAR, TOP = 190, 122, 40, 104, 86


def table(figures: Any) -> str:
    """The figures as a table in Markdown."""
    heads = ["", "", *COLUMNS]
    heads.insert(3, "todo-api ÷ this")
    lines = [heads, ["---"] * 2 + ["---:"] * (len(heads) - 2)]
    for operation, loads in figures["operations"].items():
        for name, load in loads.items():
            cells = [operation, name, *(f"{load[field]:{form}}" for field, form in COLUMNS.values())]
            cells.insert(3, f"{loads['todo-api']['rate'] / load['rate']:.2f}")
            lines.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def svg(figures: Any) -> str:
    """The requests a second as bars: a column for each operation, a row for each server."""
    operations = figures["operations"]
    greatest = max(load["rate"] for loads in operations.values() for load in loads.values())
    names = list(operations["get"])
    width, height = NAMES + COLUMN * len(operations), TOP + ROW * len(names) + 8
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size}>',
        f"<title>Requests per second of {', '.join(names)}</title><style>{STYLE}</style>",
        f'<rect class="page" width="{width}" height="{height}" rx="6"/>',
        '<text class="title" x="16" y="28">Requests per second</text>',
        '<text class="note" x="16" y="47">One process on one core, 32 connections. Longer is faster.</text>',
    ]
    for row, name in enumerate(names):
        parts.append(f'<text x="16" y="{TOP + ROW * row + 24}">{name}</text>')
    for column, (operation, loads) in enumerate(operations.items()):
        x = NAMES + COLUMN * column
        parts.append(f'<text class="note" x="{x}" y="{TOP - 10}">{operation}</text>')
        for row, name in enumerate(names):
            y, rate = TOP + ROW * row, loads[name]["rate"]
            kind, length = "own" if name == "todo-api" else "bar", BAR * rate / greatest
            parts.append(f'<text class="number" x="{x}" y="{y + 16}">{rate:,.0f}</text>')
            parts.append(
                f'<rect class="{kind}" x="{x}" y="{y + 21}" width="{length:.1f}" height="8" rx="1"/>'
            )
    return "\n".join((*parts, "</svg>\n"))


def publish(path: Path) -> str:
    """Write the chart beside the figures, and table and chart into the page beside them, if there is one.

    Returns the table.
    """
    figures = json.loads(path.read_text())
    path.with_suffix(".svg").write_text(svg(figures))
    shown = f"{table(figures)}\n\n{figures['how']}"
    insert(path.with_suffix(".md"), "figures", f"![Requests per second]({path.stem}.svg)\n\n{shown}")
    return shown


def insert(page: Path, region: str, text: str) -> None:
    """Replace what stands between the two comments of a region, if there is such a page."""
    if page.exists():
        start, end = f"<!-- {region} -->", f"<!-- end of {region} -->"
        new = f"{start}\n{text}\n{end}"
        page.write_text(re.sub(f"{start}.*{end}", lambda _: new, page.read_text(), flags=re.S))


if __name__ == "__main__":
    sys.stdout.write(publish(Path(sys.argv[1])) + "\n")
