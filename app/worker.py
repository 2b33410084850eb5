"""`python -m app.worker`: marks tasks that are past their due date, every few seconds, until SIGTERM.

Only one may run. A second one waits a little, in case the first is just ending, and then refuses.
"""

import asyncio
import logging
import signal
import sys
from contextlib import suppress

from sqlalchemy import func, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.feed import Feed
from app.healthcheck import WORKER_FILE
from app.logs import configure
from app.models import Task
from app.resources import Resources
from app.settings import Settings, load
from app.signals import exit_on_signals

logger = logging.getLogger("app.worker")

# The worker's place; any number will do, as long as nothing else in this database uses it.
ADVISORY_LOCK = 7_529_242
# Seconds to wait while the database is away.
RETRY_PAUSE = 1.0


class AnotherWorkerError(Exception):
    """The place is taken."""


async def take_place(connection: AsyncConnection, patience: float) -> None:
    """Hold the worker's place until `connection` closes; wait up to `patience` seconds for it.

    Raises:
        AnotherWorkerError: another worker holds it.
    """
    deadline = asyncio.get_running_loop().time() + patience
    while not await connection.scalar(select(func.pg_try_advisory_lock(ADVISORY_LOCK))):
        await connection.rollback()
        if asyncio.get_running_loop().time() > deadline:
            raise AnotherWorkerError
        await asyncio.sleep(0.2)
    await connection.commit()


async def mark_overdue(connection: AsyncConnection, feed: Feed) -> int:
    """Mark every task that is past its due date, tell the feed, and return how many there were."""
    statement = (
        update(Task)
        .where(~Task.done, ~Task.overdue, Task.due_at < func.now())
        .values(overdue=True)
        .returning(Task.id, Task.project_id)
    )
    rows = (await connection.execute(statement)).all()
    await connection.commit()
    for task_id, project_id in rows:
        await feed.publish("task.overdue", id=task_id, project_id=project_id)
    return len(rows)


async def run(settings: Settings) -> None:
    """Work until cancelled; goes on by itself after the database was away.

    Raises:
        AnotherWorkerError: another worker runs.
    """
    resources = Resources(settings)
    try:
        while True:
            try:
                # One connection for all, because the place is lost with it.
                async with resources.engine.connect() as connection:
                    await take_place(connection, settings.worker_patience_seconds)
                    logger.info("working")
                    while True:
                        if marked := await mark_overdue(connection, resources.feed):
                            logger.info("tasks overdue", extra={"fields": {"tasks": marked}})
                        WORKER_FILE.touch()
                        await asyncio.sleep(settings.worker_interval_seconds)
            except (OSError, DBAPIError) as error:  # noqa: PERF203 - once per outage
                logger.warning("database away", extra={"fields": {"error": type(error).__name__}})
                await asyncio.sleep(RETRY_PAUSE)
    finally:
        await resources.close()


async def _run_until_signal(settings: Settings) -> None:
    work = asyncio.create_task(run(settings))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, work.cancel)
    with suppress(asyncio.CancelledError):
        await work


def main() -> None:
    """Work until SIGTERM (status 0); 1 if another worker runs, 2 if a setting is missing or wrong."""
    exit_on_signals()
    settings = load()
    configure(settings.log_level)
    try:
        asyncio.run(_run_until_signal(settings))
    except AnotherWorkerError:
        sys.stderr.write("worker: another worker is running on this database; stop it first.\n")
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
