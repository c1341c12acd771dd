"""``todo-api openapi``."""

import click
import msgspec

from todo_api.app import create_app
from todo_api.http.openapi import build
from todo_api.settings import Settings


@click.command()
def openapi() -> None:
    """Print the OpenAPI document."""
    app = create_app(Settings(database_url="postgresql://"))
    click.echo(msgspec.json.format(msgspec.json.encode(build(app))))
