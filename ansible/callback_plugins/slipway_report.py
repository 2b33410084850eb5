"""Callback plugin: write how a playbook run went to a file, for whatever comes after it (a summary, a notice).

It does nothing unless the environment variable SLIPWAY_REPORT names a file. The file is written anew with every piece of
news, so that a run which is cut off leaves what it knew.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import time
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: slipway_report
type: aggregate
short_description: Writes how a run went to a file, as JSON
description:
  - Does nothing unless the environment variable E(SLIPWAY_REPORT) names a file.
  - >-
    The file holds C(playbook), C(ok), C(began), C(seconds) and, for each host in C(hosts), C(ok), C(unreachable), C(error)
    (one line), C(output) (the last log lines, or what a command printed), C(findings) (of the health check), C(release) (what the engine
    tells of the release), and in check mode C(drift), what would be changed. C(ok) is null in a run that was cut off.
  - >-
    Of several servers, each has C(serves). Where one failed, C(cause) names the first that did, and C(put_back) says whether a
    server that had been switched could go back to what it served before the run.
requirements:
  - Nothing but Ansible.
"""


class CallbackModule(CallbackBase):  # type: ignore[misc] # Ansible ships no types
    """Gathers the report."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "slipway_report"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        """Begin an empty report."""
        super().__init__()
        self._path = os.environ.get("SLIPWAY_REPORT", "")
        self.disabled = not self._path
        self._began = time.monotonic()
        now = dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
        self._report: dict[str, Any] = {"playbook": "", "ok": None, "began": now, "hosts": {}}

    def _host(self, name: str) -> dict[str, Any]:
        empty: dict[str, Any] = {"ok": None, "unreachable": False, "error": "", "output": "", "release": {}}
        empty |= {"findings": [], "drift": []}
        host: dict[str, Any] = self._report["hosts"].setdefault(name, empty)
        # The action plugin of a release leaves its result here: as a part of the task's result, it would be printed.
        part = Path(f"{self._path}.{name}")
        if part.exists():
            host["release"] = json.loads(part.read_text(encoding="utf-8"))
            host["output"] = host["release"].get("output", "")
            part.unlink()
        return host

    def _write(self) -> None:
        self._report["seconds"] = round(time.monotonic() - self._began, 1)
        target = Path(self._path)
        scratch = target.with_name(f"{target.name}.new")
        # Errors may quote a server; only the owner reads them here.
        handle = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(self._report, stream)
        scratch.replace(target)

    def v2_playbook_on_start(self, playbook: Any) -> None:  # noqa: ANN401 - Ansible ships no types
        """Name the playbook."""
        self._report["playbook"] = Path(playbook._file_name).name  # noqa: SLF001 - there is no public way
        self._write()

    def v2_runner_on_start(self, host: Any, task: Any) -> None:  # noqa: ANN401, ARG002 - as above
        """Remember that a host was come to."""
        if host.get_name() not in self._report["hosts"]:
            self._host(host.get_name())
            self._write()

    def v2_runner_on_ok(self, result: Any) -> None:  # noqa: ANN401 - as above
        """Note a release, and findings that did not fail the run."""
        host = self._host(result.host.name)
        host["findings"] += result.result.get("findings", [])
        host["output"] = result.result.get("stdout", host["output"])
        if "results" not in result.result:  # those of a loop come one by one
            self._note_drift(host, result)
        if "told" in result.result:
            host |= {key: result.result[key] for key in ("serves", "put_back") if key in result.result}
        self._write()

    def v2_runner_item_on_ok(self, result: Any) -> None:  # noqa: ANN401 - as above
        """Note what would be changed, in a loop."""
        self._note_drift(self._host(result.host.name), result, str(self._get_item_label(result.result)))
        self._write()

    @staticmethod
    def _note_drift(host: dict[str, Any], result: Any, item: str = "") -> None:  # noqa: ANN401 - as above
        if result.task.check_mode and result.is_changed():
            # What a task says of itself in check mode is more than its name.
            told = item or str(result.result.get("msg") or "" if result.task.action.endswith("debug") else "")
            name = result.task.get_name()
            host["drift"].append(f"{name}: {told}" if told else name)

    def v2_runner_on_failed(self, result: Any, **how: bool) -> None:  # noqa: ANN401 - as above
        """Note the first failure of a host: those after it are its consequences."""
        host = self._host(result.host.name)
        host["findings"] += result.result.get("findings", [])
        if not how.get("ignore_errors") and host["ok"] is None:
            told = str(result.result.get("msg") or "it failed without a message").strip()
            host |= {"ok": False, "error": told, "unreachable": bool(result.result.get("lost"))}
            self._report.setdefault("cause", result.host.name)
        self._write()

    def v2_runner_on_unreachable(self, result: Any) -> None:  # noqa: ANN401 - as above
        """Note a server that cannot be logged in to."""
        told = str(result.result.get("msg") or "the server cannot be reached").strip()
        self._host(result.host.name).update(ok=False, unreachable=True, error=told)
        self._report.setdefault("cause", result.host.name)
        self._write()

    def v2_playbook_on_stats(self, stats: Any) -> None:  # noqa: ANN401 - as above
        """Draw the balance."""
        for name in stats.processed:
            host = self._host(name)
            if host["ok"] is None:
                host["ok"] = not (stats.failures.get(name) or stats.dark.get(name))
        hosts = self._report["hosts"].values()
        self._report["ok"] = bool(hosts) and all(host["ok"] for host in hosts)
        self._write()
