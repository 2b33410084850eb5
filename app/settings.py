"""Settings, all from the environment. What is missing or wrong is told in one line, never in a traceback."""

import os
import sys
from typing import Any

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.database import database_url


class Settings(BaseSettings):
    """What the web service and the worker run with; each field is the environment variable of its name.

    Use `load()`, which also understands the `POSTGRES_*` parts. Times are in seconds.
    """

    # An empty variable is what compose passes for one that nobody set, so it counts as missing.
    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore")

    database_url: SecretStr
    redis_url: SecretStr
    # Verifies the signatures of incoming webhooks; shorter keys can be guessed.
    secret_key: SecretStr = Field(min_length=16)

    # All interfaces: inside a container nothing else makes sense, and the container publishes nothing.
    host: str = "0.0.0.0"  # noqa: S104 - see above
    port: int = Field(default=8000, ge=0, le=65535)
    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")

    db_pool_size: int = Field(default=5, ge=1, le=100)
    db_max_overflow: int = Field(default=10, ge=0, le=100)
    redis_pool_size: int = Field(default=20, ge=2, le=1000)
    events_channel: str = "project-manager:events"
    heartbeat_seconds: float = Field(default=5, gt=0, le=60)
    worker_interval_seconds: float = Field(default=5, gt=0, le=3600)
    # How long a second worker waits for the first to end before it refuses to start.
    worker_patience_seconds: float = Field(default=10, ge=0, le=60)

    # Baked into the image at build time (see Dockerfile); a run from a checkout has none of them.
    git_sha: str = "unknown"
    build_time: str = "unknown"
    app_version: str = "dev"


def load() -> Settings:
    """Read the settings from the environment.

    Raises:
        SystemExit: with status 2, after one line on stderr that names every missing or wrong setting.
    """
    problems: list[str] = []
    # The rest is read even without an address, so that one line tells everything that is wrong.
    given: dict[str, Any] = {"database_url": ""}
    try:
        given["database_url"] = database_url(os.environ)
    except ValueError as error:
        problems.append(str(error))
    try:
        settings = Settings(**given)
    except ValidationError as error:
        # include_input=False: the rejected value may be a secret.
        for problem in error.errors(include_url=False, include_input=False):
            name = str(problem["loc"][0]).upper()
            missing = problem["type"] == "missing"
            problems.append(f"{name} is missing" if missing else f"{name} is wrong: {problem['msg']}")
    if problems:
        sys.stderr.write(f"app: {'; '.join(problems)}. Set it in the environment, see app/README.md.\n")
        raise SystemExit(2)
    return settings
