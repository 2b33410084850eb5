"""The command: asks, shows what it would write, writes it once somebody has agreed, and says what comes next."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

from onboarding import github, steps
from onboarding.answers import QUESTIONS
from onboarding.errors import InitError
from onboarding.place import ENVIRONMENTS, Place
from onboarding.plan import plan
from onboarding.wishes import collect

ROOT = Path(__file__).resolve().parent.parent


def arguments() -> argparse.ArgumentParser:
    """Return the options."""
    parser = argparse.ArgumentParser(
        prog="make init ARGS=…",
        description="Writes the inventory of one environment, a deploy key and a vault with generated secrets. What an "
        "earlier run has made stays, except for what an option names.",
        epilog="Each answer may also come from the environment: the variables of docs/setup.md, and SLIPWAY_APP. "
        "Ends with 0 when all is in place, 1 when you declined or GitHub refused, 2 when it cannot go on.",
    )
    for question in QUESTIONS:
        parser.add_argument(f"--{question.name}", metavar=question.name.upper(), help=question.text)
    parser.add_argument("--environment", choices=ENVIRONMENTS, help="which inventory; default: production")
    parser.add_argument(
        "--fingerprint", metavar="SHA256:…", help="the server's ed25519 host key, as its console shows it"
    )
    parser.add_argument(
        "--rotate-key", action="store_true", help="make a new deploy key in place of this machine's"
    )
    parser.add_argument(
        "--new-host-key", action="store_true", help="the server was installed anew: pin the key it has now"
    )
    parser.add_argument(
        "--github", action="store_true", help="store the settings in GitHub without asking whether to"
    )
    parser.add_argument(
        "--repo", default="", metavar="OWNER/NAME", help="the repository on GitHub; default: this checkout's"
    )
    parser.add_argument(
        "--inventories", type=Path, default=ROOT / "inventories", help="default: those of this checkout"
    )
    parser.add_argument("--yes", action="store_true", help="ask nothing: what is not given is an error")
    parser.add_argument("--check", action="store_true", help="say what would be written, write nothing")
    return parser


def main(words: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    given = arguments().parse_args(words)
    try:
        return run(given)
    except InitError as error:
        print(f"init: {' '.join(str(error).split())}", file=sys.stderr)
    except (OSError, UnicodeDecodeError) as error:
        print(f"init: {' '.join(str(error).split())}; then run it again: it goes on", file=sys.stderr)
    except (KeyboardInterrupt, EOFError):
        print("\ninit: stopped; run it again at any time: it goes on with what is there", file=sys.stderr)
        return 130
    return 2


def run(given: argparse.Namespace) -> int:
    """Do what the options say."""
    terminal = sys.stdin.isatty() and not given.yes
    if not terminal and not given.yes and not given.check:
        raise InitError("this is no terminal to ask at: add --yes or --check")
    place = Place(given.inventories.resolve(), given.environment or _environment(terminal=terminal))
    if not place.folder.is_dir():
        raise InitError(f"there is no folder {place.folder}: make it (docs/setup.md)")
    with steps.alone(place.folder):
        return _write(given, place, terminal=terminal)


def _environment(*, terminal: bool) -> str:
    """Ask which environment; production where nobody can be asked."""
    while terminal:
        answer = (
            input(f"Environment, {' or '.join(ENVIRONMENTS)} [{ENVIRONMENTS[0]}]: ").strip()
            or ENVIRONMENTS[0]
        )
        if answer in ENVIRONMENTS:
            return answer
        print(f"  {answer[:100]!r} will not do: choose {' or '.join(ENVIRONMENTS)}")
    return ENVIRONMENTS[0]


def _write(given: argparse.Namespace, place: Place, *, terminal: bool) -> int:
    planned = plan(place, collect(given, place, terminal=terminal))
    for line in planned.stays:
        print(f"stays: {line}")
    due = [step for step in planned.steps if step.needed]
    changed = [step.path.name for step in due if step.path.parent == place.private]
    changed = [name for name in changed if name in github.names(place)]
    # GitHub gets its environments and protection as well, unless an earlier run has come that far.
    only = changed if all((place.private / name).is_file() for name in github.names(place)) else []
    if due:
        print("Would write:" if given.check else "To be written:")
        for step in due:
            print(f"  {step.tell(place.show(step.path))}")
    else:
        print("Nothing to write: all is in place.")
    for line in planned.notes:
        print(f"note: {line}")
    if given.check:
        return 0
    if due and terminal and not _agreed("Write this?"):
        print("Nothing was written.")
        return 1
    steps.prepare(place.private)
    for step in due:
        step.make(place.private)
    if due:
        print("Written.")
    return _next(given, place, changed, only, terminal=terminal)


def _agreed(question: str) -> bool:
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


def _next(
    given: argparse.Namespace, place: Place, changed: list[str], only: list[str], *, terminal: bool
) -> int:
    """Store the settings in GitHub if that is wanted, and say what comes next."""
    failed = 0
    wanted = given.github or (
        changed
        and terminal
        and _agreed(
            "Store these settings in GitHub with scripts/github-setup, which asks before each change?"
        )
    )
    if wanted:
        failed = github.store(place, only, unattended=given.yes, repository=given.repo)
    else:
        script, *options = github.command(place, only, unattended=False, repository=given.repo)
        print("\nFor push-to-deploy, store the settings in GitHub (docs/github.md):")
        print(f"  {shlex.join([place.show(Path(script)), *options])}")
        if changed:
            print("or, where its environment is set up already:")
        for line in github.calls(place, changed):
            print(f"  {line}")
    folder = os.path.relpath(place.folder, ROOT / "ansible")
    run = "ansible-playbook" + ("" if folder == "../inventories/production" else f" -i {shlex.quote(folder)}")
    print("\nCommit the inventory, and keep a copy of the vault's password in a safe place. Then:")
    print("  source .venv/bin/activate && cd ansible")
    print(f"  {run} site.yml        # once per server, and after --rotate-key")
    print(f"  {run} deploy.yml -e tag=sha-1a2b3c4")
    return 1 if failed else 0
