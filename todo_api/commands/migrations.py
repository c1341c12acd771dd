"""``todo-api migrate``, ``rollback`` and ``migrations``."""

import click

from todo_api.commands.database import migrations_database, say
from todo_api.postgres import migrations as steps


@click.command()
def migrate() -> None:
    """Apply every pending migration."""
    with migrations_database() as url:
        steps.apply(url, say)
        say(f"The schema is current, in {steps.where(url)}.")


@click.command()
@click.argument("migration", required=False)
@click.option("--yes", is_flag=True, help="Do not ask.")
def rollback(migration: str | None, yes: bool) -> None:
    """Roll back the latest migration, and delete its data.

    With MIGRATION, roll back every migration after that one.
    """
    with migrations_database() as url:
        done = steps.applied(url)
        applied = [name for name in steps.known() if name in done]
        if migration is not None and migration not in applied:
            raise click.ClickException(
                f"No applied migration is named {migration!r}: see 'todo-api migrations'."
            )
        names = applied[applied.index(migration) + 1 :] if migration else applied[-1:]
        if not names:
            say("There is nothing to roll back.")
            return
        if not yes:
            question = f"Roll back {', '.join(reversed(names))}, and delete the data they hold?"
            click.confirm(question, abort=True, err=True)
        steps.roll_back(url, names, say)


@click.command()
def migrations() -> None:
    """Show which migrations are applied, and when."""
    with migrations_database() as url:
        applied = steps.applied(url)
    known = steps.known()
    for name, when in applied.items():
        click.echo(f"{name:32} {when:%Y-%m-%d %H:%M:%S} UTC{'' if name in known else ', by a newer version'}")
    for name in known:
        if name not in applied:
            click.echo(f"{name:32} pending")
