"""The six operations on tasks."""

import httpx

from .conftest import User, assert_problem


async def test_create_returns_the_task_and_where_it_is(ada: User) -> None:
    """A created task is answered whole, with its address and its tag."""
    response = await ada.client.post(ada.tasks, json={"title": "  Buy milk\n"})
    assert 201 == response.status_code
    task = response.json()
    assert "Buy milk" == task["title"]
    assert f"{ada.tasks}/{task['id']}" == response.headers["location"]
    assert f'"{task["updated_at"]}"' == response.headers["etag"]
    assert task == (await ada.client.get(response.headers["location"])).json()


async def test_another_users_task_is_not_there(ada: User, bob: User, client: httpx.AsyncClient) -> None:
    """A task of another user is answered like one that does not exist."""
    task = await ada.creates()
    assert_problem(await client.get(bob.path(task)), 404, "task-not-found")
