"""Releases held back by a person, for maintenance: a note in the application's directory, until it is lifted."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from .errors import ReleaseError

if TYPE_CHECKING:
    from .site import Site

LONGEST = 200
# Control characters, line and paragraph separators, halves of characters: what is no line of text.
NO_TEXT = ("Cc", "Zl", "Zp", "Cs")
# What turns the direction of the text behind it: a refusal that quotes the reason could read as another one.
TURNS = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


@dataclass(frozen=True)
class Hold:
    """Why nothing is released now.

    Args:
        reason: one line of text.
        actor: who said so.
        since: when, as the clock of the server tells it.
    """

    reason: str
    actor: str
    since: str

    def __str__(self) -> str:
        """Tell all of it in one line."""
        return f"“{self.reason}” (by {self.actor} since {self.since})"


def path(site: Site) -> str:
    """Where the hold is kept."""
    return f"{site.directory}/hold.json"


def read(site: Site) -> Hold | None:
    """Return the hold, if there is one. A file that says nothing holds releases back as well."""
    text = site.files.read(path(site))
    if text is None:
        return None
    try:
        told = json.loads(text)
        return Hold(str(told["reason"]), str(told["actor"]), str(told["since"]))
    except (ValueError, TypeError, KeyError):
        return Hold(f"no reason that can be read in {path(site)}", "nobody known", "a time not known")


def check(reason: str) -> None:
    """Refuse a reason that is not one line of text."""
    mend = (
        "say in one line why releases are held back, or lift the hold with -e hold= or `slipway hold --lift`"
    )
    if not reason.strip():
        raise ReleaseError(f"hold has no reason: {mend}")
    if len(reason) > LONGEST:
        raise ReleaseError(
            f"the reason for the hold has {len(reason)} characters, {LONGEST} are allowed: {mend}"
        )
    if any(
        unicodedata.category(character) in NO_TEXT or unicodedata.bidirectional(character) in TURNS
        for character in reason
    ):
        raise ReleaseError(f"the reason for the hold has line breaks or control characters: {mend}")


def place(site: Site, reason: str, actor: str, *, pretend: bool = False) -> tuple[bool, Hold]:
    """Hold releases back from now on; return whether that is new, and the hold.

    Args:
        site: the application.
        reason: why.
        actor: who says so.
        pretend: change nothing.

    Raises:
        ReleaseError: the reason is no line of text, or this user may not write here.
    """
    check(reason)
    found = read(site)
    if found is not None and (found.reason, found.actor) == (reason, actor):
        return False, found
    hold = Hold(reason, actor, site.clock.now())
    if not pretend:
        # Readable by all who can enter the directory: root may set it, and the user who deploys has to read it.
        try:
            site.files.write(path(site), json.dumps(asdict(hold)) + "\n", 0o644)
        except OSError as error:
            raise _refused(site, error) from error
    return True, hold


def lift(site: Site, *, pretend: bool = False) -> Hold | None:
    """Let releases go on; return the hold that there was, if any."""
    found = read(site)
    if found is not None and not pretend:
        try:
            site.files.remove_tree(path(site))
        except OSError as error:
            raise _refused(site, error) from error
    return found


def _refused(site: Site, error: OSError) -> ReleaseError:
    return ReleaseError(
        f"cannot write {path(site)} ({error.strerror or error}): be root or the user who deploys; the directory is "
        "app_deploy_directory, which site.yml makes"
    )


def told(hold: Hold) -> str:
    """Say that releases are held back, and how that ends."""
    return f"releases are held back: {hold}; to lift it: ansible-playbook hold.yml -e hold=, or on the server `slipway hold --lift`"


def refuse(site: Site) -> None:
    """Refuse to go on while releases are held back."""
    hold = read(site)
    if hold is not None:
        raise ReleaseError(told(hold))
