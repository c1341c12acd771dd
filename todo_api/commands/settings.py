"""``todo-api settings``."""

import click

from todo_api.commands.database import say
from todo_api.postgres.conninfo import describe
from todo_api.settings import FIELDS, Settings, allowed, read


@click.command()
def settings() -> None:
    """Show every setting, its source and its default.

    The environment wins over .env in the current directory. No password is
    shown.
    """
    found = read()
    about = described()
    for variable, field in FIELDS.items():
        source = found.sources.get(variable, "the default")
        if variable not in found.sources:
            value = _default(field.name)
        elif field.name not in found.values:
            value = "wrong"
        else:
            value = _shown(found.values[field.name])
            value = describe(value) if variable.endswith("DATABASE_URL") else value
        click.echo(f"{variable:24} {value:24} from {source} ({about[variable]})")
    for warning in found.warnings:
        say(f"Warning: {warning}")
    found.settings()


def described() -> dict[str, str]:
    """The default of each variable, and the allowed values if its type limits them."""
    return {
        variable: "; ".join(filter(None, [f"default: {_default(field.name)}", allowed(field)]))
        for variable, field in FIELDS.items()
    }


def _default(name: str) -> str:
    return _shown(getattr(Settings(), name))


def _shown(value: object) -> str:
    """A value as it is written in the environment."""
    match value:
        case None | () | "":
            return "none"
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case tuple():
            return ",".join(value)
    return str(value)
