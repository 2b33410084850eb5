"""Where the database is. Standard library alone: migrations use it, and each import would slow every release."""

from collections.abc import Mapping
from urllib.parse import quote, urlsplit

DRIVER = "postgresql+asyncpg"


def database_url(environment: Mapping[str, str]) -> str:
    """Build the SQLAlchemy address of the database from environment variables.

    `DATABASE_URL` wins. Otherwise it is made of `POSTGRES_HOST` and `POSTGRES_PASSWORD`, and optionally
    `POSTGRES_PORT` (5432), `POSTGRES_USER` and `POSTGRES_DB` (both project_manager); a password needs no
    escaping there.

    Raises:
        ValueError: one line that names the missing or wrong setting, never its value.
    """
    url = environment.get("DATABASE_URL", "")
    if url:
        scheme, separator, rest = url.partition("://")
        if not separator or scheme not in {"postgres", "postgresql", DRIVER}:
            raise ValueError("DATABASE_URL is wrong: it must start with postgresql://")
        try:
            well_formed = urlsplit(url).hostname is not None and urlsplit(url).port != 0
        except ValueError:
            well_formed = False
        if not well_formed:
            raise ValueError("DATABASE_URL is wrong: it must be postgresql://user:password@host:port/name")
        return f"{DRIVER}://{rest}"

    missing = [name for name in ("POSTGRES_HOST", "POSTGRES_PASSWORD") if not environment.get(name)]
    if missing:
        raise ValueError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing (or DATABASE_URL)"
        )
    port = environment.get("POSTGRES_PORT") or "5432"
    if not port.isdecimal():
        raise ValueError("POSTGRES_PORT is wrong: it must be a number")
    user = quote(environment.get("POSTGRES_USER") or "project_manager", safe="")
    password = quote(environment["POSTGRES_PASSWORD"], safe="")
    name = quote(environment.get("POSTGRES_DB") or "project_manager", safe="")
    return f"{DRIVER}://{user}:{password}@{environment['POSTGRES_HOST']}:{port}/{name}"
