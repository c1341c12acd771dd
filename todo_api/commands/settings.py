"""``todo-api settings``."""

import click

from todo_api.commands.database import say
from todo_api.postgres.conninfo import describe
from todo_api.settings import FIELDS, Settings, allowed, read


@click.command()
def settings() -> None:
    """Show every setting and where it comes from.

    The environment wins over .env in the current directory. Shows the default
    and what a setting takes, too, and no password.
    """
    found = read()
    defaults = Settings()
    for variable, field in FIELDS.items():
        default = _shown(getattr(defaults, field.name))
        source = found.sources.get(variable, "the default")
        value = found.values.get(field.name, "wrong" if variable in found.sources else default)
        if variable.endswith("DATABASE_URL") and variable in found.sources:
            value = describe(str(value)) if field.name in found.values else value
        about = ", ".join(filter(None, [f"default: {default}", allowed(field)]))
        click.echo(f"{variable:24} {_shown(value):24} from {source} ({about})")
    for warning in found.warnings:
        say(f"Warning: {warning}")
    found.settings()


def _shown(value: object) -> str:
    """Write a value as a variable holds it."""
    match value:
        case None | ():
            return "none"
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case tuple():
            return ",".join(value)
    return str(value)
