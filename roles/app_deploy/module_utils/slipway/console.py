"""What the command says to people; programs get JSON."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from . import hold
from .process import follow

if TYPE_CHECKING:
    from .site import Site

# Seconds between two looks on behalf of a person who watches.
PROGRESS = 1.0


def show(command: str, answer: dict[str, Any]) -> None:
    """Show what a command answered."""
    if command == "status":
        status(answer)
    elif command == "hold":
        print(answer["told"])
    else:
        end(answer)


def status(answer: dict[str, Any]) -> None:
    """Show what serves, what is being done, and how the last attempts ended."""
    serving = answer["live"]
    since = serving.get("began", "an unknown time") if serving else ""
    print(
        f"{answer['app']}: {serving['release'] + ' serves since ' + since if serving else 'nothing is live'}"
    )
    if answer["busy"]:
        print(f"a release is running now: {answer['holder']}")
    if answer["hold"]:
        print(hold.told(hold.Hold(**answer["hold"])))
    for item in answer["containers"]:
        print(f"  {item['service']:<20} {item['state']:<10} {item['health']:<10} {item['release']}")
    for release in reversed(answer["releases"]):
        seconds = sum(stage["seconds"] for stage in release["stages"])
        print(
            f"  {release.get('began', ''):<26}{release['release']:<32}{release['outcome']:<15}{seconds:7.1f} s  {release.get('actor', '')}"
        )


def watch(site: Site, answer: dict[str, Any], wait: float, *, quiet: bool) -> dict[str, Any]:
    """Show each stage of a release when it ends, until the last one; return the last answer.

    Args:
        site: the application.
        answer: what `process.start` returned.
        wait: seconds to watch at most.
        quiet: only wait.
    """
    until = time.monotonic() + wait
    while True:
        for event in () if quiet else answer["events"]:
            if event["event"] == "done":
                print(f"{event['stage']:<12}{event['seconds']:6.1f} s", flush=True)
            elif event["event"] == "note":
                print(event["text"], flush=True)
        if answer["ended"] or time.monotonic() >= until:
            return answer
        answer = follow(site, answer["release"], answer["seen"], PROGRESS)


def end(answer: dict[str, Any]) -> None:
    """Say how a release ended, or what it would do."""
    if "actions" in answer:
        print("\n".join([*answer["actions"], *(f"note: {line}" for line in answer.get("notes", ()))]))
        return
    result = answer.get("result")
    if result is None:
        print(f"{answer['release']} goes on; follow it with: slipway follow {answer['release']}")
        return
    if result.get("output"):
        print(result["output"])
    serving = f"{result['live']} serves" if result.get("live") else "nothing is live"
    print(f"error: {result['error']} ({serving})" if result.get("error") else serving)
