"""The environment and .env, read into Settings."""

import os
import re
from pathlib import Path

import pytest

from todo_api import settings
from todo_api.postgres.database import _REACTION
from todo_api.settings import Settings, SettingsError

from .service import run

NOWHERE = Path("/nonexistent/.env")


def load(**environment: str) -> Settings:
    """Read settings from this environment alone."""
    return settings.load(environment, NOWHERE)


def faults(**environment: str) -> list[str]:
    """What is wrong with this environment."""
    return settings.read(environment, NOWHERE).faults


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("DATABASE_URL", "postgresql://u:p@a,b:5433/todo", "postgresql://u:p@a,b:5433/todo"),
        ("DATABASE_URL", "postgres:///todo?host=/run/postgresql", "postgres:///todo?host=/run/postgresql"),
        ("DATABASE_URL", "postgresql://a:65535,[::1]:5433/todo", "postgresql://a:65535,[::1]:5433/todo"),
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
        (
            "CORS_ALLOW_ORIGINS",
            "capacitor://localhost,ionic://localhost,null,HTTPS://App.example",
            ("capacitor://localhost", "ionic://localhost", "null", "https://app.example"),
        ),
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
        ("DATABASE_URL", "postgresql://u:s3cret@h:65536/todo"),
        ("DATABASE_URL", "postgresql://u:s3cret@h:five/todo"),
        ("DATABASE_URL", "postgresql://u:s3cret%zz@h/todo"),
        ("DATABASE_URL", "postgresql://u:s3cret@s3cret@h/todo"),
        ("DATABASE_URL", "postgresql://u:s3cret/s3cret@h/todo"),
        ("DATABASE_URL", "postgresql://u@h/todo?password=s3cret%zz"),
        ("DATABASE_URL", "postgresql://u@h/todo?password=s3cret="),
        ("DATABASE_URL", "postgresql://u:s3cret@h/todo?sslmod=require"),
        ("DATABASE_URL", os.fsdecode(b"postgresql://caf\xe9:s3cret@h/todo")),
        ("MIGRATIONS_DATABASE_URL", "s3cret"),
        ("DATA_DIR", "/s3cret\0"),
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
        ("CORS_ALLOW_ORIGINS", "://app"),
        ("CORS_ALLOW_ORIGINS", "nil"),
    ],
)
def test_a_wrong_setting_is_named(variable: str, text: str) -> None:
    """The fault begins with the variable and its source, is one line, and holds no password."""
    assert [f"{variable} (from the environment)"] == [
        fault.partition(") ")[0] + ")" for fault in faults(**{variable: text})
    ]
    assert "s3cret" not in str(faults(**{variable: text}))


def test_all_wrong_settings_are_named_at_once() -> None:
    """Nobody has to start the service once for each mistake: each has a line, with what is allowed."""
    assert [
        "PORT (from the environment) must be a whole number from 0 to 65535, and is 'x'.",
        "PREPARE_STATEMENTS (from the environment) must be true or false, and is 'x'.",
        "POOL_TIMEOUT (from the environment) must be a number of seconds above 0, at most 300, and is 'x'.",
        "LOCK_TIMEOUT (from the environment) must be a number of seconds from 0 to 300, and is 'x'.",
        "LOG_LEVEL (from the environment) must be one of debug, info, warning, error, and is 'x'.",
    ] == faults(PORT="x", LOG_LEVEL="x", LOCK_TIMEOUT="x", PREPARE_STATEMENTS="x", POOL_TIMEOUT="x")


def test_by_default_the_server_gives_up_before_the_service_does() -> None:
    """So that a client learns from PostgreSQL's own error that nothing was written."""
    settings = load()
    assert 0 < settings.lock_timeout < settings.statement_timeout < settings.pool_timeout * (1 - _REACTION)


def test_settings_must_fit_one_another() -> None:
    """A pool is not larger at least than at most."""
    assert ["POOL_MIN_SIZE must not be above POOL_MAX_SIZE."] == faults(
        POOL_MIN_SIZE="20", POOL_MAX_SIZE="10"
    )


@pytest.mark.parametrize(
    "line",
    [
        'DATABASE_URL="postgresql://ada:s3cret@db/todo',
        "DATABASE_URL='postgresql://ada:s3cret@db/todo",
        "DATABASE_URL: postgresql://ada:s3cret@db/todo",
        "DATABASE_URL postgresql://ada:s3cret@db/todo",
        "DATABASE_URL",
        '"DATABASE_URL"=postgresql://ada:s3cret@db/todo"',
        'DATABASE_URL="postgresql://ada:s3cret@db/todo\nHOST=::1"',
    ],
)
def test_a_line_that_cannot_be_read_is_a_fault(line: str, tmp_path: Path) -> None:
    """The service does not start on another database than the file means; the line is named, not quoted."""
    file = tmp_path / ".env"
    file.write_text(f"# settings\n\n{line}\nPORT=8001\n")
    [fault] = settings.read({}, file).faults
    assert f"{file} line 3" in fault
    assert "s3cret" not in fault


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("POOL_MAXSIZE", "; did you mean POOL_MAX_SIZE?"),
        ("database_url", "; did you mean DATABASE_URL?"),
        ("DATABASEURL", "; did you mean DATABASE_URL?"),
        ("OTEL_SERVICE_NAME", "."),
    ],
)
def test_a_name_that_is_no_setting_is_a_warning(name: str, hint: str, tmp_path: Path) -> None:
    """It may belong to another program that reads the same file; a misspelt one is recognised."""
    file = tmp_path / ".env"
    file.write_text(f"PORT=8001\n{name}=s3cret\n")
    found = settings.read({}, file)
    assert [f"{file} line 2: {name} is not a setting and has no effect{hint}"] == found.warnings
    assert [] == found.faults


def test_a_value_is_taken_as_it_stands(tmp_path: Path) -> None:
    """A dollar sign is a character like any other, after a byte order mark and in quotes too."""
    file = tmp_path / ".env"
    file.write_text('\ufeffDATABASE_URL="postgresql://ada:${HOME}$$@db/todo" # the database\nexport PORT=1\n')
    actual = settings.load({"HOME": "/root"}, file)
    assert ("postgresql://ada:${HOME}$$@db/todo", 1) == (actual.database_url, actual.port)


def test_settings_are_shown(tmp_path: Path) -> None:
    """Every setting, its value and where that is from, its default; a wrong one as well, no password."""
    (tmp_path / ".env").write_text(
        "DATABASE_URL=postgresql://ada:s3cret@db/todo?sslpassword=s3cret\nPORT=x\nPROT=s3cret\n"
    )
    shown = run(tmp_path, "settings", WORKERS="2", PORT="", CORS_ALLOW_ORIGINS="https://a.example,null")
    assert 0 == shown.returncode, shown.stderr
    assert shown.stderr.startswith("Warning: .env line 3: PROT is not a setting")
    lines = {line.split()[0]: line for line in shown.stdout.splitlines()}
    assert {field.upper() for field in Settings.__struct_fields__} == lines.keys()
    assert "todo on db port 5432, as role ada from .env line 1 (default: none)" in lines["DATABASE_URL"]
    assert re.search(r" 2 +from the environment \(default: 1; a whole number", lines["WORKERS"])
    assert re.search(r" https://a\.example,null +from the environment ", lines["CORS_ALLOW_ORIGINS"])
    assert re.search(r" 5 +from the default ", lines["POOL_TIMEOUT"])
    assert re.search(r" 8000 +from the default ", lines["PORT"]), "an empty variable hides the file's"
    wrong = run(tmp_path, "settings", DATABASE_URL="mysql://ada:s3cret@db", PORT="y")
    assert 2 == wrong.returncode
    assert len(lines) == len(wrong.stdout.splitlines())
    assert re.search(r"^DATABASE_URL +wrong +from the environment", wrong.stdout)
    assert "s3cret" not in shown.stdout + shown.stderr + wrong.stdout + wrong.stderr


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    """What .env says holds where the environment says nothing."""
    (tmp_path / ".env").write_text("PORT=8001\nHOST=0.0.0.0\n")
    actual = settings.load({"PORT": "8002"}, tmp_path / ".env")
    assert ("0.0.0.0", 8002) == (actual.host, actual.port)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    """A .env in another encoding, or that is a directory, stops the start."""
    (tmp_path / ".env").write_bytes("HOST=käse".encode("latin-1"))
    for file, reason in [
        (tmp_path / ".env", "is not text in UTF-8"),
        (tmp_path, "cannot be read: Is a directory"),
    ]:
        with pytest.raises(SettingsError, match=f"{file} {reason}"):
            settings.load({}, file)


def test_the_example_is_complete_and_sound(tmp_path: Path) -> None:
    """.env.example explains every setting there is and no other, and shows the default of each."""
    text = (Path(__file__).parent.parent / ".env.example").read_text()
    shown = re.findall(r"^#?\s?([A-Z_]+)=", text, re.MULTILINE)
    assert sorted(field.upper() for field in Settings.__struct_fields__) == sorted(shown)
    (tmp_path / ".env").write_text(re.sub(r"^#\s?(?=[A-Z_]+=)", "", text, flags=re.MULTILINE))
    assert Settings() == settings.load({}, tmp_path / ".env")


def test_settings_cannot_change() -> None:
    """What was checked stays as it was."""
    with pytest.raises(AttributeError):
        load().port = 1  # type: ignore[misc]  # that it is frozen is the test
