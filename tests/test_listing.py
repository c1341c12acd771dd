"""Lists: their filters, what paging promises, and a cost that is bounded."""

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import psycopg
import pytest

from .api import User

SORTS = ["-created_at", "created_at"]


async def titles(user: User, **parameters: Any) -> list[str]:
    """The titles on a page, in its order."""
    return [task["title"] for task in await user.lists(**parameters)]


def next_page(response: httpx.Response) -> str | None:
    """Where Link says that the next page is, if anywhere."""
    url = response.links.get("next", {}).get("url")
    assert (url is None) == ("link" not in response.headers)
    return url


async def walk(user: User, **parameters: Any) -> list[list[str]]:
    """The titles on each page, following Link from page to page."""
    pages, url = [], f"{user.tasks}?{urlencode(parameters)}"
    while url:
        response = await user.client.get(url)
        assert 200 == response.status_code, response.text
        pages.append([task["title"] for task in response.json()])
        url = next_page(response) or ""
    return pages


async def test_a_list_is_a_bare_array_newest_first(ada: User) -> None:
    """Whole tasks, as they are read one by one, and only the user's."""
    tasks = [await ada.creates(f"{number}") for number in range(3)]
    response = await ada.client.get(ada.tasks)
    assert "application/json" == response.headers["content-type"]
    assert tasks[::-1] == response.json()
    assert next_page(response) is None


async def test_no_tasks_are_an_empty_list(ada: User, bob: User) -> None:
    """A user without tasks has an empty list, whatever others have."""
    await bob.creates()
    assert [] == await ada.lists()


async def test_a_page_has_100_tasks_unless_told(ada: User, database: psycopg.Connection) -> None:
    """And 1000 at most."""
    _fill(database, ada, 1001)
    response = await ada.client.get(ada.tasks)
    assert 100 == len(response.json())
    assert next_page(response)
    response = await ada.client.get(ada.tasks, params={"limit": 1000})
    assert 1000 == len(response.json())
    assert [["1"]] == await walk(ada, limit=1000, after=response.json()[-1]["id"])


def _fill(database: psycopg.Connection, user: User, count: int, completed: Sequence[int] = ()) -> None:
    """Add tasks with the titles 1, 2, …, in this order, some of them completed."""
    database.execute(
        "insert into tasks (user_id, id, title, completed) "
        "select %s, ('01900000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, n, n = any(%s) "
        "from generate_series(1, %s) as n",
        [user.id, list(completed), count],
    )


@pytest.mark.parametrize(
    ("sort", "expected"), [("-created_at", ["54", "32", "1"]), ("created_at", ["12", "34", "5"])]
)
async def test_walking_all_pages(ada: User, sort: str, expected: list[str]) -> None:
    """Each task once, in order; the last page has no Link."""
    for number in range(1, 6):
        await ada.creates(f"{number}")
    assert expected == ["".join(page) for page in await walk(ada, limit=2, sort=sort)]
    assert ["".join(expected)] == ["".join(page) for page in await walk(ada, limit=5, sort=sort)]


@pytest.mark.parametrize("sort", SORTS)
async def test_pages_stay_whole_while_tasks_come_and_go(ada: User, sort: str) -> None:
    """None is skipped and none seen twice, also where the one at the cursor is deleted."""
    tasks = [await ada.creates(f"{number}") for number in range(12)]
    seen: list[str] = []
    url: str | None = f"{ada.tasks}?{urlencode({'limit': 3, 'sort': sort})}"
    while url:
        response = await ada.client.get(url)
        page = response.json()
        seen += [task["id"] for task in page]
        url = next_page(response)
        await asyncio.gather(ada.client.delete(ada.path(page[-1])), ada.client.delete(ada.path(page[0])))
        await ada.creates("later") if sort == "-created_at" else None
        await ada.client.patch(ada.path(page[1]), json={})
    ids = [task["id"] for task in tasks]
    assert (ids[::-1] if sort == "-created_at" else ids) == seen


async def test_after_takes_any_id(ada: User, bob: User) -> None:
    """A cursor is a place in the order, whether a task is there or not, or whose it is."""
    first, second = await ada.creates("1"), await ada.creates("2")
    others = await bob.creates()
    third = await ada.creates("3")
    assert ["2", "1"] == await titles(ada, after=others["id"])
    assert ["3"] == await titles(ada, after=others["id"].upper(), sort="created_at")
    assert ["1"] == await titles(ada, after=second["id"])
    assert [] == await titles(ada, after=first["id"])
    assert [] == await titles(ada, after=third["id"], sort="created_at")
    assert ["1", "2", "3"] == await titles(
        ada, after="00000000-0000-0000-0000-000000000000", sort="created_at"
    )


async def test_completed_tasks_or_the_others(ada: User) -> None:
    """The filter takes true and false."""
    await ada.creates("open")
    await ada.creates("done", completed=True)
    for sort in SORTS:
        assert ["done"] == await titles(ada, completed="true", sort=sort)
        assert ["open"] == await titles(ada, completed="false", sort=sort)


TEXTS = [
    "50% off",
    "50 off",
    "a_b",
    "axb",
    r"C:\temp",
    "C:/temp",
    "Über Straße",
    "ΑΒΓ",
    "Ёлка",
    'O\'Reilly -- "x"',
    "+1&a=b",
]


@pytest.mark.parametrize(
    ("q", "expected"),
    [
        ("%", ["50% off"]),
        ("_", ["a_b"]),
        ("\\", [r"C:\temp"]),
        ("0% o", ["50% off"]),
        ("A_B", ["a_b"]),
        ("50", ["50 off", "50% off"]),
        ("ÜBER", ["Über Straße"]),
        ("r sTRAß", ["Über Straße"]),
        ("αβ", ["ΑΒΓ"]),
        ("ёЛ", ["Ёлка"]),
        ("'", ['O\'Reilly -- "x"']),
        ("+1&a=b", ["+1&a=b"]),
        ("true", []),
        ("x" * 200, []),
    ],
)
@pytest.mark.parametrize("where", ["title", "description"])
async def test_a_text_is_found_as_it_is(ada: User, where: str, q: str, expected: list[str]) -> None:
    """In title or description, without regard to case; nothing in it is a pattern."""
    for text in TEXTS:
        await ada.creates(**{"title": "-", where: text})
    assert expected == [task[where] for task in await ada.lists(q=q)]
    assert expected[::-1] == [task[where] for task in await ada.lists(q=q, sort="created_at")]


async def test_changes_since_a_moment(ada: User) -> None:
    """That moment included, in whatever offset it is said."""
    old, new = await ada.creates("old"), await ada.creates("new")
    for sort in SORTS:
        assert ["new"] == await titles(ada, updated_since=new["updated_at"], sort=sort)
    assert ["new", "old"] == await titles(ada, updated_since=old["updated_at"].replace("Z", "+00:00"))
    changed = (await ada.client.patch(ada.path(old), json={})).json()
    assert ["old"] == await titles(ada, updated_since=changed["updated_at"])
    assert [] == await titles(ada, updated_since="2999-01-01T00:00:00+14:00")
    assert ["new", "old"] == await titles(ada, updated_since="0001-01-01T00:00:00+23:59")
    assert [] == await titles(ada, updated_since="9999-12-31T23:59:59.999999-23:59")


async def test_link_keeps_every_parameter(ada: User) -> None:
    """And names an address that can be asked as it stands."""
    last = await ada.creates("zzz")
    for number in range(4):
        await ada.creates(f"a&b=%é {number}", completed=True)
    given = {
        "limit": "3",
        "completed": "true",
        "q": "A&B=%é ",
        "updated_since": "2001-02-03T04:05:06.000007+01:30",
        "sort": "created_at",
        "after": last["id"],
    }
    response = await ada.client.get(ada.tasks, params=given)
    url = next_page(response)
    assert url is not None
    assert ada.tasks == urlsplit(url).path
    assert given | {"after": response.json()[-1]["id"]} == dict(
        parse_qsl(urlsplit(url).query, strict_parsing=True)
    )
    assert ["a&b=%é 3"] == [task["title"] for task in (await ada.client.get(url)).json()]


async def test_a_page_is_full_also_where_a_filter_leaves_gaps(ada: User) -> None:
    """A page ends with its limit or with the last match, not where the filter skipped."""
    for number in range(6):
        await ada.creates(f"{number}", completed=number % 2 == 0)
    assert [["4", "2"], ["0"]] == await walk(ada, limit=2, completed="true")


@pytest.mark.parametrize(
    ("tasks", "completed", "pages"),
    [
        (10_000, [], [[]]),
        (10_001, [], [[], []]),
        (10_001, [1], [[10_001], [1]]),
        (10_001, [2], [[10_000, 2], []]),
        (10_001, [2, 3, 4], [[10_000, 9_999, 9_998, 4, 3], [2]]),
        (10_001, [3, 4, 5], [[9_999, 9_998, 9_997, 5, 4], [3]]),
        (20_500, [1, 500, 501, 10_000], [[20_500, 20_001, 20_000, 10_501], [10_000, 501], [500, 1]]),
    ],
)
async def test_a_page_looks_at_10000_tasks_at_most(
    ada: User, database: psycopg.Connection, tasks: int, completed: list[int], pages: list[list[int]]
) -> None:
    """It ends there, even if it is empty, and Link continues behind the last task that was looked at.

    The list is the same from both ends.
    """
    _fill(database, ada, tasks, [*completed, *(tasks + 1 - number for number in completed)])
    mirrored = [[tasks + 1 - number for number in page] for page in pages]
    for sort, expected in (("-created_at", pages), ("created_at", mirrored)):
        found = await walk(ada, limit=5, completed="true", sort=sort)
        assert expected == [[int(title) for title in page] for page in found]


@pytest.mark.parametrize("q", [None, "1", "nowhere"])
async def test_a_bounded_walk_is_the_same_in_both_directions(
    ada: User, database: psycopg.Connection, q: str | None
) -> None:
    """Each matching task once, in order, among more tasks than one page looks at."""
    _fill(database, ada, 12_000)
    expected = [f"{number}" for number in range(1, 12_001) if q is None or q in f"{number}"]
    filters = {"limit": 1000} | ({"q": q} if q else {})
    assert expected == list(itertools.chain(*await walk(ada, sort="created_at", **filters)))
    assert expected[::-1] == list(itertools.chain(*await walk(ada, sort="-created_at", **filters)))


@pytest.mark.parametrize("sort", SORTS)
async def test_what_paging_promises(ada: User, sort: str) -> None:
    """With 16 concurrent writers, each task that was there at first and stays is seen exactly once."""
    tasks = [await ada.creates(f"{number}") for number in range(200)]
    doomed, staying = tasks[::4], [task for task in tasks if task not in tasks[::4]]
    chosen = random.Random(14)

    async def write(number: int) -> None:
        for _ in range(25):
            await ada.creates("new")
            await ada.client.patch(ada.path(chosen.choice(staying)), json={"description": f"by {number}"})
            await ada.client.delete(ada.path(chosen.choice(doomed)))

    async def read() -> Counter[str]:
        seen: Counter[str] = Counter()
        url: str | None = f"{ada.tasks}?{urlencode({'limit': 7, 'sort': sort, 'completed': 'false'})}"
        while url:
            response = await ada.client.get(url)
            seen.update(task["id"] for task in response.json())
            url = next_page(response)
        return seen

    writers = asyncio.gather(*map(write, range(16)))
    walks = []
    while not writers.done():
        walks.append(await read())
    await writers
    for seen in walks:
        assert {1} == set(seen.values())
        assert {task["id"] for task in staying} <= seen.keys()
