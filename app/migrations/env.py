"""How Alembic reaches the database: through asyncpg, one run at a time, never waiting long for a lock.

Speed matters here, because every release asks `current --check-heads`. So neither the web application nor the
ORM is imported (which is why there is no `target_metadata`: a test compares models and migrations instead), and
the engine is made by `create_engine` and driven by `greenlet_spawn`. That is what SQLAlchemy's AsyncEngine does
inside; importing it costs 0.3 s more.
"""

import asyncio
import logging
import os
import time

from alembic import context
from alembic.util import CommandError
from sqlalchemy import Connection, create_engine, pool, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.util import greenlet_spawn

from app.database import database_url

# Any number will do, as long as nothing else in this database uses it.
ADVISORY_LOCK = 7_529_241
# Seconds to wait for another run to end.
ADVISORY_LOCK_WAIT = 60
# Limits of the session, from variables: asyncpg does not read PGOPTIONS.
SESSION = {
    # A migration that waits for a lock makes every later query on that table wait behind it: give up soon instead.
    "lock_timeout": os.environ.get("MIGRATION_LOCK_TIMEOUT") or "5s",
    "statement_timeout": os.environ.get("MIGRATION_TIMEOUT") or "0",
    # A run that is killed leaves no statement behind that goes on (PostgreSQL 14 or newer).
    "client_connection_check_interval": "1s",
}
CONNECT_TIMEOUT = 10


def _take_turn(connection: Connection) -> None:
    """Hold the advisory lock until the connection closes.

    Asks again and again rather than waiting in one statement: that would keep a snapshot open, and the other
    run's CREATE INDEX CONCURRENTLY would wait for it for ever.
    """
    deadline = time.monotonic() + ADVISORY_LOCK_WAIT
    while not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": ADVISORY_LOCK}):
        connection.commit()
        if time.monotonic() > deadline:
            raise CommandError(
                f"another migration run has held the lock for {ADVISORY_LOCK_WAIT} s; see if it hangs"
            )
        time.sleep(0.2)
    connection.commit()


def _migrate(url: str) -> None:
    engine = create_engine(
        url,
        poolclass=pool.NullPool,
        connect_args={"timeout": CONNECT_TIMEOUT, "server_settings": SESSION},
    )
    with engine.connect() as connection:
        _take_turn(connection)
        context.configure(connection=connection, transaction_per_migration=True)
        with context.begin_transaction():
            context.run_migrations()


def _run() -> None:
    try:
        url = database_url(os.environ)
    except ValueError as error:
        raise CommandError(str(error)) from None
    if context.is_offline_mode():
        context.configure(url=url, literal_binds=True, transaction_per_migration=True)
        with context.begin_transaction():
            context.run_migrations()
        return
    try:
        asyncio.run(greenlet_spawn(_migrate, url))
    except OSError as error:
        raise CommandError(f"cannot reach the database: {str(error) or type(error).__name__}") from None
    except DBAPIError as error:
        where = f" in: {' '.join(error.statement.split())}" if error.statement else ""
        raise CommandError(f"the database refused: {error.orig}{where}") from None


logging.basicConfig(level=logging.WARNING, format="%(message)s")
logging.getLogger("alembic.runtime.migration").setLevel(logging.INFO)
_run()
