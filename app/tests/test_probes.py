"""What machines ask."""

import httpx
from pydantic import SecretStr

from app.settings import Settings
from app.tests.conftest import Serve
from app.tests.relay import Relay


async def test_healthy_and_ready(client: httpx.AsyncClient) -> None:
    assert (await client.get("/health")).json() == {"status": "ok"}
    answer = await client.get("/ready")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "failed": {}})


async def test_ready_names_what_is_down_and_recovers(serve: Serve, settings: Settings) -> None:
    database_url, redis_url = settings.database_url.get_secret_value(), settings.redis_url.get_secret_value()
    async with Relay(database_url) as database, Relay(redis_url) as redis:
        with serve(database_url=SecretStr(database.url), redis_url=SecretStr(redis.url)) as url:
            async with httpx.AsyncClient(base_url=url, timeout=20) as client:
                assert (await client.get("/ready")).status_code == 200
                for cut, down in ((redis, {"redis"}), (database, {"redis", "database"})):
                    await cut.cut()
                    answer = await client.get("/ready")
                    assert answer.status_code == 503
                    assert set(answer.json()["failed"]) == down
                    assert (await client.get("/health")).status_code == 200
                await redis.mend()
                assert set((await client.get("/ready")).json()["failed"]) == {"database"}
                await database.mend()
                assert (await client.get("/ready")).status_code == 200


async def test_version_is_what_the_image_was_built_with(serve: Serve, client: httpx.AsyncClient) -> None:
    assert (await client.get("/version")).json() == {"sha": "unknown", "built": "unknown", "version": "dev"}
    with serve(git_sha="abc1234", build_time="2026-01-02T03:04:05Z", app_version="v1.0.0") as url:
        async with httpx.AsyncClient(base_url=url) as other:
            told = (await other.get("/version")).json()
    assert told == {"sha": "abc1234", "built": "2026-01-02T03:04:05Z", "version": "v1.0.0"}
