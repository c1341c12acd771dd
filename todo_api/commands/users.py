"""``todo-api users``: add, list and delete users."""

from itertools import islice
from uuid import UUID

import click
from psycopg import errors

from todo_api.commands.database import connection, say
from todo_api.http.timestamps import encode
from todo_api.queries import Statement
from todo_api.resources.users import ADD, GET, User

FIND = Statement("users/find", User)
LIST = Statement("users/list", User)
DELETE = Statement("users/delete", User)


@click.group()
def users() -> None:
    """Add, list and delete users."""


@users.command()
@click.argument("email")
def add(email: str) -> None:
    """Add a user and print the id."""
    with connection("users") as opened:
        try:
            rows = opened.execute(ADD.text, {"email": email}).fetchall()
        except errors.UniqueViolation:
            raise click.ClickException(f"{email} is taken.") from None
        except errors.CheckViolation:
            raise click.ClickException(f"{email!r} is not an email address.") from None
    click.echo(User(*rows[0]).id)


@users.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.option("--limit", type=click.IntRange(min=1), help="Print at most this many users.  [default: all]")
def list_(as_json: bool, limit: int | None) -> None:
    """Print users, oldest first: id, creation time, email."""
    # With a server-side cursor only one page is in memory at a time.
    with connection("users") as opened, opened.transaction(), opened.cursor("users") as cursor:
        cursor.itersize = 1000
        cursor.execute(LIST.text)
        if not as_json:
            say(f"{'ID':36}  {'CREATED (UTC)':16}  EMAIL")
        for row in islice(cursor, limit):
            user = User(*row)
            line = f"{user.id}  {user.created_at:%Y-%m-%d %H:%M}  {user.email}"
            click.echo(encode(user) if as_json else line)


@users.command()
@click.argument("user")
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(user: str, yes: bool) -> None:
    """Delete USER (an id or an email) and all their tasks."""
    with connection("users") as opened:
        try:
            found = opened.execute(GET.text, {"user_id": UUID(user)}).fetchall()
        except ValueError:
            found = opened.execute(FIND.text, {"email": user}).fetchall()
        if not found:
            raise click.ClickException(f"There is no user {user}.")
        doomed = User(*found[0])
        if not yes:
            question = f"Delete {doomed.email} ({doomed.id}) and all their tasks?"
            click.confirm(question, abort=True, err=True)
        opened.execute(DELETE.text, {"user_id": doomed.id})
