"""Ask a host how it is: run library/bootstrap_probe.py there, from standard input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

LISTS = {"type": "list", "elements": "str", "default": []}
OPTIONS = {
    "refuse": {"type": "str", "default": ""},
    **dict.fromkeys(("packages", "paths", "listings", "accounts", "sysctls", "units"), LISTS),
}
# Nothing else of what a host says becomes part of the result: a result can set variables, and add hosts.
ANSWERS = ("host", "ansible_facts")
QUESTION = Path(__file__).parents[1] / "library/bootstrap_probe.py"
# As `interpreter_python` in ansible.cfg has it: every supported server has its python3 there. -I: nothing that lies in the
# home of whoever logs in is imported, because this runs as root.
PYTHON = "/usr/bin/python3"
COMMAND = f"{PYTHON} -I -"


class ActionModule(ActionBase):  # type: ignore[misc] # Ansible ships no types
    """Sends the question alone: a module would bring half of Ansible along, which takes longer than the answer."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the task and return its result; in check mode too, because it changes nothing."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, wanted = self.validate_argument_spec(OPTIONS)
        if reason := str(wanted.pop("refuse")).strip():
            return {**result, "failed": True, "msg": reason}
        return {**result, "changed": False, **self._ask(dict(wanted))}

    def _ask(self, wanted: dict[str, list[str]]) -> dict[str, Any]:
        """Return the host's answer, or why there is none."""
        question = f"{QUESTION.read_text(encoding='utf-8')}\nanswer({json.dumps(wanted)!r})\n"
        done = self._low_level_execute_command(COMMAND, in_data=question.encode())
        # The answer is the last line: a shell's own files may have greeted first.
        printed = {name: str(done[name]).strip().splitlines() or [""] for name in ("stdout", "stderr")}
        try:
            told = json.loads(printed["stdout"][-1])
        except ValueError:
            told = None
        answers = {name: told.get(name) for name in ANSWERS} if isinstance(told, dict) else {}
        if answers and all(isinstance(answer, dict) for answer in answers.values()):
            return answers
        reason = printed["stderr"][-1].strip() or printed["stdout"][-1].strip() or "no reason given"
        msg = f"{PYTHON} on the host does not answer: {reason}"
        return {"failed": True, "msg": msg, "rc": done["rc"], "module_stderr": done["stderr"]}
