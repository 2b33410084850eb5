"""Stands in for the engine on a server: keeps what went live in the file ``state``; the file ``fate`` says what becomes of a release."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent.parent
FATE = (FOLDER / "fate").read_text()


class Server:
    """What is on the server."""

    def __init__(self) -> None:
        """Read it."""
        self.state: dict[str, Any] = json.loads((FOLDER / "state").read_text())

    @property
    def live(self) -> dict[str, Any]:
        """The release that serves."""
        found: dict[str, Any] = self.state["live"][-1] if self.state["live"] else {}
        return found

    def attempt(self, verb: str, tag: str) -> str:
        """Begin something, and return its id."""
        self.state["last"] += 1
        with (FOLDER.parent / "order").open("a") as order:
            order.write(f"{FOLDER.name} {verb} {tag}\n")
        return f"{self.state['last']}-{tag}"

    def switch(self, release: str) -> dict[str, Any]:
        """Let a release serve."""
        told = {"release": release, "live": release, "previous": self.live.get("release", ""), "sha": ""}
        self.state["live"].append({**told, "outcome": "live", "stage": "retire", "stages": []})
        return self.live

    def deploy(self, request: dict[str, Any]) -> dict[str, Any]:
        """Release."""
        (FOLDER / "request").write_text(json.dumps(request))
        serving, release = self.live.get("release", ""), self.attempt("deploy", request["tag"])
        if FATE == "gate":
            told = {"release": release, "live": serving, "previous": serving, "stage": "gate", "stages": []}
            return {**told, "outcome": "failed", "error": "the new app did not become healthy"}
        if serving.endswith(request["tag"]):
            return {**self.live, "release": release, "outcome": "nothing-to-do"}
        return self.switch(release)

    def answer(self, command: str, release: str) -> dict[str, Any]:
        """Answer as the engine does."""
        if command == "status":
            return {"live": self.live or None}
        if command == "rollback" and FATE == "stuck":
            return {"error": "cannot go back: the files are gone"}
        if command == "rollback":
            to = json.load(sys.stdin)["to"] or self.live["previous"]
            self.state["result"] = self.switch(self.attempt("rollback", to.partition("-")[2]))
        elif command == "deploy":
            self.state["result"] = self.deploy(json.load(sys.stdin))
        result = self.state["result"]
        release = release if command == "follow" else result["release"]
        return {"release": release, "events": [], "seen": 0, "ended": True, "result": result}


if __name__ == "__main__":
    # Behind --engine and its digest.
    server = Server()
    print(json.dumps(server.answer(sys.argv[3], sys.argv[4] if len(sys.argv) > 4 else "")))
    (FOLDER / "state").write_text(json.dumps(server.state))
