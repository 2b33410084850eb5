"""A runner with service containers: act starts those only for jobs that run in an image, and else passes over them."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, Any

import yaml

from lab import images
from tests.workflows import compat
from tests.workflows.act import Act

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LABEL = "ubuntu-24.04-with-services"


class ActWithServices(Act):
    """A runner that runs the jobs with services in an image, the others as they are, all on the committed files.

    What act cannot read of the workflows is rewritten beside the workspace: their linters run in it.
    """

    def _command(self, folder: Path, workflow: str, event: str, payload: Mapping[str, Any]) -> list[str]:
        command = super()._command(folder, workflow, event, payload)
        caller = folder / "repository"
        shutil.copytree(caller / ".github/workflows", folder / "workflows")
        file = folder / "workflows" / workflow
        file.write_text(mark(file.read_text(encoding="utf-8")), encoding="utf-8")
        for rewritten in compat.descriptions(caller):
            shutil.copy2(self.repository / rewritten.relative_to(caller), rewritten)
        images.ensure(images.ACT_RUNNER)
        # The last one counts.
        return [*command, f"--workflows={file}", f"--platform={LABEL}={images.ACT_RUNNER.tag}"]


def mark(workflow: str) -> str:
    """Return a workflow whose jobs with services ask for a runner of this label; the others stay as they are."""
    described: dict[str, dict[str, Any]] = yaml.safe_load(workflow)["jobs"]
    for job in (name for name, job in described.items() if "services" in job):
        runs_on = re.compile(rf"(?ms)(^  {re.escape(job)}:\n(?:(?!^  \S).)*?^    runs-on: )[^\n]*")
        workflow, count = runs_on.subn(rf"\g<1>{LABEL}", workflow, count=1)
        assert count == 1, f"where does the job {job} run?"
    return workflow
