"""Changes of files: told before they are made, each made in one step, none where nothing would change."""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from onboarding.errors import InitError

if TYPE_CHECKING:
    from collections.abc import Iterator

PRIVATE, PUBLIC = 0o600, 0o644
UNFINISHED = "unfinished-"


class Step(Protocol):
    """A change of one file."""

    @property
    def path(self) -> Path:
        """The file that is another one afterwards."""

    @property
    def needed(self) -> bool:
        """Whether it changes anything."""

    def tell(self, name: str) -> str:
        """Say what it does to the file, called `name`, without anything secret."""

    def make(self, private: Path) -> None:
        """Do it; unfinished files may lie in the folder `private` alone."""


@dataclass(frozen=True)
class Write:
    """A file gets this content; one with `secret`, its purpose, is its owner's alone and never shown."""

    path: Path
    content: str
    secret: str = ""

    @property
    def needed(self) -> bool:
        """Whether the content or, of a secret, the mode is another one."""
        return self._before() != self.content or (bool(self.secret) and self._mode() != PRIVATE)

    def _before(self) -> str | None:
        return self.path.read_text(encoding="utf-8") if self.path.is_file() else None

    def _mode(self) -> int:
        return stat.S_IMODE(self.path.stat().st_mode)

    def tell(self, name: str) -> str:
        """Say what changes: as a diff, or the purpose alone of what is secret."""
        before = self._before()
        if self.secret:
            how = "new" if before is None else "replaced" if before != self.content else "for its owner alone"
            return f"{name}: {self.secret} ({how}, not shown)"
        lines = difflib.unified_diff(
            (before or "").splitlines(), self.content.splitlines(), "now", "then", n=1, lineterm=""
        )
        kind = "changed" if before is not None else "new"
        return "\n".join([f"{name} ({kind}):", *(f"    {line}" for line in [*lines][2:])])

    def make(self, private: Path) -> None:
        """Write it beside, then put it into its place in one step."""
        target = self.path.resolve()  # a link stays one
        mode = PRIVATE if self.secret else self._mode() if self.path.exists() else PUBLIC
        descriptor, unfinished = tempfile.mkstemp(prefix=UNFINISHED, dir=private)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(self.content)
            file.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        Path(unfinished).replace(target)
        _settle(target.parent)


@dataclass(frozen=True)
class Move:
    """A secret file takes the place of another one."""

    source: Path
    path: Path
    secret: str

    @property
    def needed(self) -> bool:
        """Always: it is planned only where it is due."""
        return True

    def tell(self, name: str) -> str:
        """Say what it is."""
        return f"{name}: {self.secret} ({'replaced' if self.path.exists() else 'new'}, not shown)"

    def make(self, private: Path) -> None:  # noqa: ARG002 - nothing is unfinished in between
        """Move it in one step."""
        self.source.replace(self.path)
        _settle(self.path.parent)


@dataclass(frozen=True)
class Remove:
    """A secret file goes away."""

    path: Path
    secret: str

    @property
    def needed(self) -> bool:
        """Always: it is planned only where it is due."""
        return True

    def tell(self, name: str) -> str:
        """Say what it is."""
        return f"{name}: {self.secret} (removed)"

    def make(self, private: Path) -> None:  # noqa: ARG002 - nothing is unfinished in between
        """Remove it."""
        self.path.unlink(missing_ok=True)


def _settle(folder: Path) -> None:
    """Bring a folder's entries to the disk: the order of the steps holds after a power cut as well."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def prepare(private: Path) -> None:
    """Make the private folder, which git ignores wherever the inventory lies, or mend its mode."""
    private.mkdir(mode=0o700, exist_ok=True)
    private.chmod(0o700)
    # Before there is anything to ignore in it.
    ignore = Write(private / ".gitignore", "*\n")
    if ignore.needed:
        ignore.make(private)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Let nobody else change this inventory meanwhile, and remove what a killed run has left unfinished."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InitError(f"another `make init` is at work in {folder}: let it end first") from error
    else:
        for left in folder.glob(f".slipway/{UNFINISHED}*"):
            left.unlink()
        yield
    finally:
        os.close(descriptor)
