"""Carry out a release: start the engine on the server, and show each stage as it is reached."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

if TYPE_CHECKING:
    from types import ModuleType

display = Display()

# Seconds that one call waits for news; it returns at once when the release ends.
WAIT = 5
# What does not travel in the request.
APART = ("directory", "env", "secrets", "env_file", "registry")
# Seconds that a lost connection may be away, and between two attempts to have it back.
RECONNECT, PAUSE = 60, 1.0
ENGINE = Path(__file__).parents[1] / "module_utils/slipway"


def engine(part: str) -> ModuleType:
    """Return a part of the engine, as it lies here: Ansible puts module_utils on the path of no plugin."""
    if "slipway" not in sys.modules:
        where = {"submodule_search_locations": [str(ENGINE)]}
        spec = importlib.util.spec_from_file_location("slipway", ENGINE / "__init__.py", **where)
        assert spec is not None  # noqa: S101 - it is always a file of ours
        assert spec.loader is not None  # noqa: S101 - as above
        sys.modules["slipway"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["slipway"])
    return importlib.import_module(f"slipway.{part}")


def wrong_setting(arguments: dict[str, Any]) -> str:
    """Say which setting cannot work, if any; asked before any connection is made, by the engine's own rules."""
    try:
        if rollback := arguments.get("rollback"):
            checks = engine("checks")
            checks.value(str(arguments.get("directory")), checks.DIRECTORY, "app_deploy_directory")
            engine("rollback").wish(rollback)
        else:
            request = arguments.get("request") or {}
            engine("request").parse({**request, **{key: arguments[key] for key in APART if key in arguments}})
    except engine("errors").ReleaseError as error:
        return str(error)
    return ""


def unreachable(error: Exception) -> str:
    """Say in one line that there is no connection."""
    return f"the server cannot be reached: {' '.join(str(error).split())}"


class ActionModule(ActionBase):  # type: ignore[misc] # Ansible ships no types
    """Calls the engine directly, which is quicker than a module; the module of this name only installs it."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the task and return its result."""
        super().run(tmp, task_vars)
        self._host = (task_vars or {}).get("inventory_hostname", "")
        self._directory = str(self._task.args.get("directory"))
        self._rollback = self._task.args.get("rollback") or {}
        self._release = ""
        if "undo" not in self._task.args and (wrong := wrong_setting(self._task.args)):
            return {"failed": True, "msg": wrong}
        try:
            return self._put_back(task_vars) if "undo" in self._task.args else self._carry_out(task_vars)
        except AnsibleConnectionFailure as error:
            if len((task_vars or {}).get("ansible_play_hosts_all", ())) <= 1:
                raise
            # For one of several it is a failure like any other, which lets the playbook put the other ones back.
            return {"failed": True, "lost": True, "release": self._release, "msg": unreachable(error)}

    def _carry_out(self, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """Release, or go back; return the task's result."""
        if self._task.check_mode:
            return self._told(self._check(task_vars))
        answer = self._begin(task_vars)
        if answer.get("failed"):
            return self._told(answer)
        if "error" in answer:
            return self._told({"failed": True, "msg": answer["error"], "output": answer.get("output", "")})
        release = self._release = answer["release"]
        while True:
            self._show(answer["events"])
            if answer["ended"]:
                return self._ended(release, answer["result"])
            answer = self._follow(release, answer["seen"])
            if "events" not in answer:
                return {"failed": True, "release": release, "msg": self._lost_sight(release, answer)}
            if not answer["events"]:
                self._say("still at it")

    def _put_back(self, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """Leave a release for the one before it, if it serves, and say what serves then.

        Returns:
            ``told``, one line; ``serves``, empty where nothing does or nobody knows; ``put_back``, where that was to be done;
            ``problem``, where it could not be. It never fails, so that each server gets its turn.
        """
        undo, serves = str(self._task.args["undo"]), ""
        answer: dict[str, Any] = {}
        try:
            # One that was lost sight of may still be at it.
            while undo and not self._engine("follow", undo, "--wait", str(WAIT)).get("ended", True):
                self._say("still at it")
            serving = self._engine("status", "--json").get("live") or {}
            serves, before = serving.get("release", ""), serving.get("previous", "")
            told = f"{serves} serves" if serves else "nothing is live"
            if undo and before and serves == undo:
                self._rollback = {**self._rollback, "to": before}
                went = self._carry_out(task_vars)
                if went.get("failed"):
                    answer = {"problem": went["msg"]}
                else:
                    serves = went["result"]["live"]
                    told = f"{serves} serves, what served before this run"
                    answer = {"put_back": True, "changed": True}
        except AnsibleConnectionFailure as error:
            told = f"what serves is not known: {unreachable(error)}"
            answer = {"problem": unreachable(error)} if undo else {}
        if "problem" in answer:
            told = f"{undo} could not be left for what served before this run: {answer['problem']}"
            answer |= {"put_back": False, "problem": told}
        self._say(told)
        return {**answer, "serves": serves, "told": told}

    def _begin(self, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """Start the release, with this very engine on the server and no other release running; or say why not."""
        began, waited, fresh = time.monotonic(), 0.0, False
        while True:
            answer = self._deploy(waited)
            if "waiting" in answer:
                self._say(answer["waiting"])
                # The release that is waited for may bring another engine.
                waited, fresh = time.monotonic() - began, False
            elif "stale" not in answer:
                return answer
            elif fresh:
                why = (str(answer.get("stderr", "")).strip().splitlines() or ["no reason given"])[-1]
                return {"error": f"the engine does not start on the server: {why}"}
            else:
                installed = self._execute_module(module_args=dict(self._task.args), task_vars=task_vars)
                if installed.get("failed"):
                    return dict(installed)
                fresh = True

    def _follow(self, release: str, seen: int) -> dict[str, Any]:
        """Ask for news. The release does not need the connection: where it is lost, attach again."""
        deadline = time.monotonic() + RECONNECT
        while True:
            try:
                return self._engine("follow", release, "--seen", str(seen), "--wait", str(WAIT))
            except AnsibleConnectionFailure as error:  # noqa: PERF203 - once per interruption
                if time.monotonic() >= deadline:
                    raise AnsibleConnectionFailure(
                        f"the connection was lost for {RECONNECT} s, but release {release} goes on: see "
                        f"`{self._directory}/bin/slipway status` on the server, or run this again ({error})"
                    ) from error
                self._say("the connection is lost, and the release goes on: connecting again")
                time.sleep(PAUSE)

    def _check(self, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """Ask what would happen."""
        if not self._rollback:
            checked: dict[str, Any] = self._execute_module(
                module_args=dict(self._task.args), task_vars=task_vars
            )
            return checked
        answer = self._engine("rollback", "--request", "--check", given=self._rollback)
        if "stale" in answer:
            return {"notes": ["this playbook's engine is not on the server yet, so it cannot be asked"]}
        return {"failed": True, "msg": answer["error"]} if "error" in answer else answer

    def _deploy(self, waited: float = 0) -> dict[str, Any]:
        """Start the release, with all that it needs on standard input: secrets never stand in a command line.

        Args:
            waited: seconds that another release has been waited for.
        """
        words = ("--wait", str(WAIT), "--waited", f"{waited:.1f}")
        if self._rollback:
            return self._engine("rollback", "--request", *words, given=self._rollback)
        request = self._task.args["request"]
        apart = {key: value for key, value in self._task.args.items() if key != "request"}
        return self._engine("deploy", *words, given={**request, **apart})

    def _engine(self, *arguments: str, given: dict[str, Any] | None = None) -> dict[str, Any]:
        """Call the engine on the server; where it is missing or another one, return ``{"stale": true}``."""
        digest = hashlib.sha256(
            b"".join(part.read_bytes() for part in sorted(ENGINE.glob("*.py")))
        ).hexdigest()
        words = [f"{self._directory}/bin/slipway", "--engine", digest, *arguments]
        data = json.dumps(given or {}).encode()
        done = self._low_level_execute_command(shlex.join(words), in_data=data)
        try:
            answer = json.loads(done["stdout"])
        except ValueError:
            # Not installed, or too old to know its own digest.
            return {"stale": True, "stderr": done["stderr"]}
        return answer if isinstance(answer, dict) else {"stale": True}

    def _lost_sight(self, release: str, answer: dict[str, Any]) -> str:
        """Say why there is no more news of a release."""
        last = str(answer.get("stderr", "")).strip().splitlines()[-1:]
        why = last[0] if last else "another checkout has put its own engine on the server meanwhile"
        return (
            f"lost sight of release {release}, which may go on: {why}; see `{self._directory}/bin/slipway status` "
            "on the server, or run this again"
        )

    def _report(self, result: dict[str, Any]) -> None:
        """Leave the result for ansible/callback_plugins/slipway_report.py, where a report is wanted."""
        if path := os.environ.get("SLIPWAY_REPORT"):
            part = Path(f"{path}.{self._host}")
            part.touch(mode=0o600)
            part.write_text(json.dumps(result), encoding="utf-8")

    def _say(self, text: str) -> None:
        display.display(f"    {self._host}: {text}")

    def _show(self, events: list[dict[str, Any]]) -> None:
        for event in events:
            if event["event"] == "done":
                self._say(f"{event['stage']:<12}{event['seconds']:6.1f} s")
            elif event["event"] == "note":
                self._say(event["text"])

    def _told(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Show what check mode found, or pass on what failed before anything began."""
        for line in answer.get("actions", []):
            self._say(line)
        for note in answer.get("notes", []):
            self._say(f"note: {note}")
        if answer.get("output"):
            display.display(answer["output"])
        return {key: value for key, value in answer.items() if key not in ("output", "exception")}

    def _ended(self, release: str, result: dict[str, Any]) -> dict[str, Any]:
        outcome = result["outcome"]
        if "undo" not in self._task.args:
            self._report(result)
        if outcome in ("live", "nothing-to-do"):
            return {"release": release, "result": result, "changed": outcome == "live"}
        if result.get("output"):
            display.display(result["output"])
        serving = (
            f"release {result['live']} still serves" if result.get("live") else "nothing was live before"
        )
        reason = result.get("error", "nobody knows how it ended; see `slipway status` on the server")
        apart = "\n" if "\n" in reason else " "  # a list of findings keeps its lines
        return {"failed": True, "release": release, "msg": f"{reason}{apart}({serving})"}
