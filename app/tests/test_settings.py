"""Where the database is, and what is wrong with the environment."""

import pytest

from app.database import database_url
from app.settings import load

PARTS = {"POSTGRES_HOST": "db", "POSTGRES_PASSWORD": "p@ss/word:%"}


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg"])
def test_an_address_gets_our_driver(scheme: str) -> None:
    assert database_url({"DATABASE_URL": f"{scheme}://u:p@h/d", **PARTS}) == "postgresql+asyncpg://u:p@h/d"


def test_parts_make_an_address() -> None:
    assert database_url(PARTS) == (
        "postgresql+asyncpg://project_manager:p%40ss%2Fword%3A%25@db:5432/project_manager"
    )
    named = PARTS | {"POSTGRES_USER": "u", "POSTGRES_DB": "d", "POSTGRES_PORT": "1", "DATABASE_URL": ""}
    assert database_url(named) == "postgresql+asyncpg://u:p%40ss%2Fword%3A%25@db:1/d"


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        ({}, "POSTGRES_HOST and POSTGRES_PASSWORD are missing"),
        ({"POSTGRES_HOST": "db", "POSTGRES_PASSWORD": ""}, "POSTGRES_PASSWORD is missing"),
        (PARTS | {"POSTGRES_PORT": "x"}, "POSTGRES_PORT is wrong"),
        ({"DATABASE_URL": "mysql://u:hidden@h/d"}, "DATABASE_URL is wrong"),
        ({"DATABASE_URL": "hidden"}, "DATABASE_URL is wrong"),
        ({"DATABASE_URL": "postgresql:///d"}, "DATABASE_URL is wrong"),
        ({"DATABASE_URL": "postgresql://u:hidden@h:port/d"}, "DATABASE_URL is wrong"),
    ],
)
def test_what_is_wrong_is_named(environment: dict[str, str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as raised:
        database_url(environment)
    assert "hidden" not in str(raised.value)


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "PORT", "HOST"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        **PARTS,
        "REDIS_URL": "redis://r",
        "SECRET_KEY": "k" * 16,
        "DB_POOL_SIZE": "7",
        "PORT": "",
    }.items():
        monkeypatch.setenv(name, value)
    settings = load()
    assert settings.database_url.get_secret_value().endswith("@db:5432/project_manager")
    assert (settings.db_pool_size, settings.port, settings.git_sha) == (7, 8000, "unknown")
    assert "k" * 16 not in repr(settings)


def test_every_problem_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("DATABASE_URL", "POSTGRES_HOST", "POSTGRES_PASSWORD", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SECRET_KEY", "short")
    with pytest.raises(SystemExit, match="2"):
        load()
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "short" not in told.replace("shorter", "")
    for name in ("POSTGRES_HOST", "REDIS_URL is missing", "SECRET_KEY is wrong"):
        assert name in told
