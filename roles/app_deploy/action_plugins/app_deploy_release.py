"""Show a release while it runs: start it on the server, then ask for news until it has ended."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

display = Display()

# Seconds that one call waits for news; it returns at once when the release ends.
WAIT = 5


class ActionModule(ActionBase):  # type: ignore[misc] # Ansible ships no types
    """Runs the module of the same name as often as it takes."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the task and return its result."""
        super().run(tmp, task_vars)
        self._host = (task_vars or {}).get("inventory_hostname", "")
        arguments = {"wait": WAIT, **self._task.args}
        answer = self._execute_module(module_args=arguments, task_vars=task_vars)
        if answer.get("failed") or "release" not in answer:
            return self._planned(answer)
        follow = {
            "operation": "follow",
            "directory": arguments["directory"],
            "release": answer["release"],
            "wait": WAIT,
        }
        while True:
            self._show(answer["events"])
            if answer["ended"]:
                return self._ended(answer["release"], answer["result"])
            answer = self._execute_module(module_args={**follow, "seen": answer["seen"]}, task_vars=task_vars)
            if answer.get("failed"):
                return dict(answer)
            if not answer["events"]:
                self._say("still at it")

    def _say(self, text: str) -> None:
        display.display(f"    {self._host}: {text}")

    def _show(self, events: list[dict[str, Any]]) -> None:
        for event in events:
            if event["event"] == "done":
                self._say(f"{event['stage']:<12}{event['seconds']:6.1f} s")
            elif event["event"] == "note":
                self._say(event["text"])

    def _planned(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Show what check mode found, or pass on what failed before anything began."""
        for line in answer.get("actions", []):
            self._say(line)
        for note in answer.get("notes", []):
            self._say(f"note: {note}")
        if answer.get("output"):
            display.display(answer.pop("output"))
        answer.pop("exception", None)
        return dict(answer)

    def _ended(self, release: str, result: dict[str, Any]) -> dict[str, Any]:
        outcome = result["outcome"]
        answer: dict[str, Any] = {"release": release, "result": result, "changed": outcome == "live"}
        if outcome in ("live", "nothing-to-do"):
            return answer
        if result.get("output"):
            display.display(result.pop("output"))
        serving = (
            f"release {result['live']} still serves" if result.get("live") else "nothing was live before"
        )
        reason = result.get("error", "it was cut off; the next release undoes it")
        return {"failed": True, "release": release, "msg": f"{reason} ({serving})"}
