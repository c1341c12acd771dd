"""The environment and .env, read into Settings."""

import re
from pathlib import Path

import pytest

from todo_api import settings
from todo_api.settings import Settings, SettingsError

NOWHERE = Path("/nonexistent/.env")


def load(**environment: str) -> Settings:
    """Read settings from this environment alone."""
    return settings.load(environment, NOWHERE)


def test_everything_has_a_default() -> None:
    """Nothing needs to be set."""
    expected = (None, "127.0.0.1", 8000, 1, 5.0, "info", True, ())
    actual = load()
    assert expected == (
        actual.database_url,
        actual.host,
        actual.port,
        actual.workers,
        actual.pool_timeout,
        actual.log_level,
        actual.access_log,
        actual.cors_allow_origins,
    )


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("DATABASE_URL", "postgresql://u:p@a,b:5433/todo", "postgresql://u:p@a,b:5433/todo"),
        ("DATABASE_URL", "postgres:///todo?host=/run/postgresql", "postgres:///todo?host=/run/postgresql"),
        ("DATABASE_URL", "postgresql://a:5432,[::1]:5433/todo", "postgresql://a:5432,[::1]:5433/todo"),
        ("DATA_DIR", "~/todo", Path.home() / "todo"),
        ("PORT", " 8080 ", 8080),
        ("POOL_TIMEOUT", "0.5", 0.5),
        ("LOG_LEVEL", "WARNING", "warning"),
        ("ACCESS_LOG", "false", False),
        ("ACCESS_LOG", "0", False),
        ("ACCESS_LOG", "", True),
        (
            "CORS_ALLOW_ORIGINS",
            "https://a.example, http://localhost:3000,",
            ("https://a.example", "http://localhost:3000"),
        ),
        ("CORS_ALLOW_ORIGINS", "*", ("*",)),
    ],
)
def test_a_setting_is_read(variable: str, text: str, expected: object) -> None:
    """Each type is read as people write it; an empty variable counts as absent."""
    assert expected == getattr(load(**{variable: text}), variable.lower())


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("DATABASE_URL", "mysql://host/todo"),
        ("DATABASE_URL", "host=localhost password=s3cret"),
        ("DATABASE_URL", "postgresql://u:s3cret@h:70000/todo"),
        ("DATABASE_URL", "postgresql://u:s3cret@h:five/todo"),
        ("DATABASE_URL", "postgresql://u:s3cret%zz@h/todo"),
        ("DATABASE_URL", "postgresql://u:s3cret@h/todo?sslmod=require"),
        ("MIGRATIONS_DATABASE_URL", "s3cret"),
        ("PORT", "65536"),
        ("PORT", "-1"),
        ("PORT", "eight"),
        ("WORKERS", "0"),
        ("WORKERS", "1.5"),
        ("POOL_MAX_SIZE", "0"),
        ("POOL_TIMEOUT", "0"),
        ("POOL_TIMEOUT", "nan"),
        ("POOL_TIMEOUT", "inf"),
        ("LOG_LEVEL", "chatty"),
        ("ACCESS_LOG", "perhaps"),
        ("CORS_ALLOW_ORIGINS", "app.example"),
        ("CORS_ALLOW_ORIGINS", "https://app.example/"),
        ("CORS_ALLOW_ORIGINS", "https://"),
        ("CORS_ALLOW_ORIGINS", "https://[::1"),
        ("CORS_ALLOW_ORIGINS", "null"),
    ],
)
def test_a_wrong_setting_is_named(variable: str, text: str) -> None:
    """The message begins with the variable, is one line, and holds no password."""
    with pytest.raises(SettingsError, match=rf"^{variable} .+\.$") as caught:
        load(**{variable: text})
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_wrong_settings_are_named_at_once() -> None:
    """Nobody has to start the service once for each mistake."""
    with pytest.raises(SettingsError) as caught:
        load(PORT="x", WORKERS="x", POOL_MIN_SIZE="20", POOL_MAX_SIZE="10")
    assert ["PORT", "WORKERS", "POOL_MIN_SIZE", "POOL_MAX_SIZE"] == re.findall(
        r"\b[A-Z_]{4,}\b", str(caught.value)
    )


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    """What .env says holds where the environment says nothing."""
    (tmp_path / ".env").write_text("PORT=8001\nHOST=0.0.0.0\n")
    actual = settings.load({"PORT": "8002"}, tmp_path / ".env")
    assert ("0.0.0.0", 8002) == (actual.host, actual.port)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    """A .env in another encoding is told of in one sentence."""
    (tmp_path / ".env").write_bytes("HOST=käse".encode("latin-1"))
    with pytest.raises(SettingsError, match="UTF-8"):
        settings.load({}, tmp_path / ".env")


def test_the_example_is_complete_and_sound(tmp_path: Path) -> None:
    """.env.example explains every setting there is and no other, and what it shows can be used."""
    text = (Path(__file__).parent.parent / ".env.example").read_text()
    shown = re.findall(r"^#?\s?([A-Z_]+)=", text, re.MULTILINE)
    assert sorted(field.upper() for field in Settings.__struct_fields__) == sorted(shown)
    (tmp_path / ".env").write_text(re.sub(r"^#\s?(?=[A-Z_]+=)", "", text, flags=re.MULTILINE))
    settings.load({}, tmp_path / ".env")


def test_settings_cannot_change() -> None:
    """What was checked stays as it was."""
    with pytest.raises(AttributeError):
        load().port = 1  # type: ignore[misc]  # that it is frozen is the test
