"""A version that passes its gate and then does badly in real traffic: all of it goes back to the old one at once."""

from __future__ import annotations

import json
import shutil
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lab.build import build
from lab.load import LoadProcess
from lab.state import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.server import Server

BAD = "sha-e2e0bad"
# One request in ten, but for what the gate asks for.
ERRORS = """
    counter = __import__("itertools").count(1)

    @app.middleware("http")
    async def badly(request, call_next):
        if request.url.path.startswith("/api") and next(counter) % 10 == 0:
            return JSONResponse({"detail": "broken on purpose"}, status_code=500)
        return await call_next(request)

    return app
"""
WATCH = json.dumps({"app_deploy_limits": {"watch": 10, "drain": 6}})
# Seconds from the moment when the watch has seen it to the old version's answers through the proxy.
BACK_WITHIN = 5.0


def seconds_between(one: dict[str, Any], other: dict[str, Any]) -> float:
    """Return the time between two events of the journal."""
    begin, end = (datetime.fromisoformat(event["time"]) for event in (one, other))
    return (end - begin).total_seconds()


def test_traffic_goes_back_within_seconds(server: Server, tmp_path: Path) -> None:
    before = server.status()["live"]
    for name in ("app", "Dockerfile"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    main = tmp_path / "app/main.py"
    text = main.read_text(encoding="utf-8")
    assert text.count("    return app\n") == 1
    main.write_text(text.replace("    return app\n", ERRORS), encoding="utf-8")
    build(BAD, context=tmp_path)
    with LoadProcess(server.url, rate=100) as load:
        done = server.deploy(BAD, "-e", WATCH)
        report = load.stop()

    assert done.returncode != 0, done.stdout
    assert "does worse than the one before" in done.stdout
    assert "were answered with 5xx" in done.stdout
    assert f"(release {before['release']} still serves)" in done.stdout
    assert server.status()["live"]["release"] == before["release"]
    # Whatever was lost was lost by the bad version itself: the old one answered everything that came to it.
    assert set(report.failed_by_kind) <= {"status"}, report.summary()

    release = server.status()["releases"][-1]
    assert (release["tag"], release["outcome"], release["stage"]) == (BAD, "failed", "watch")
    assert "5xx" in release["bad"]
    events = [event for event in server.events() if event["release"] == release["release"]]
    seen = next(event for event in events if "bad" in event)
    # The end is written when the proxy has answered with the old version, several times in a row.
    assert seconds_between(seen, events[-1]) <= BACK_WITHIN

    with LoadProcess(server.url, rate=50) as load:
        report = load.stop()
    assert report.failed == 0, report.summary()
    assert set(report.releases) == {before["release"]}
