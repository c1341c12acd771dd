"""``todo-api explain``."""

import click

from todo_api.commands.database import connection
from todo_api.postgres import explain as plans


@click.command()
@click.argument("statement", required=False)
@click.argument("parameters", nargs=-1, metavar="[PARAMETER=VALUE]...")
def explain(statement: str | None, parameters: tuple[str, ...]) -> None:
    """Show how PostgreSQL runs STATEMENT.

    STATEMENT is a file under sql/, such as tasks/get; without it, all are
    listed. It is executed and rolled back. A parameter without a value is null.
    """
    files = {file.name: file for file in plans.statements()}
    if statement is None:
        for file in files.values():
            click.echo(plans.usage(file))
        return
    name = statement.removeprefix("sql/").removesuffix(".sql")
    if name not in files:
        raise click.ClickException(f"There is no statement {statement!r}: see 'todo-api explain'.")
    if wrong := [given for given in parameters if "=" not in given]:
        raise click.ClickException(f"{wrong[0]!r} is not of the form PARAMETER=VALUE.")
    values = dict(given.partition("=")[::2] for given in parameters)
    with connection("explain") as opened:
        for line in plans.plan(opened, files[name], values):
            click.echo(line)
