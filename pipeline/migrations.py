"""Would a migration break the version that still serves? `python -m pipeline.migrations` asks squawk, for each one.

A release migrates while the version before serves, and that version comes back when the new one fails. So every
revision of Alembic's history is rendered as the SQL that it would run, without a database, and squawk judges it by the
rules in migrations.toml. A migration that has to break one says so in a comment of its own file, for a reviewer to see:

    # squawk: ban-drop-column -- no version since v1.4 reads it, and v1.4 cannot come back

An opt-out without a reason, for a rule that squawk does not know, or for one that is kept anyway, is a problem too.
"""

import argparse
import io
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationStep
from alembic.script import Script, ScriptDirectory

RULES = Path(__file__).with_suffix(".toml")
SQUAWK = Path(sys.executable).with_name("squawk")
TIMEOUT = 60
# A project's env.py may want an address, also where it connects to nothing; never one that somebody has exported.
NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"
COMMENT = re.compile(r"#\s*squawk\b")
OPT_OUT = re.compile(r"#\s*squawk:\s+(?P<rule>[a-z-]+)(?:\s+--\s+(?P<reason>\S.*))?\s*")


@dataclass(frozen=True)
class Finding:
    """Something wrong with a migration: the rule's name, what it says, and the SQL that it is about ("" for none)."""

    rule: str
    message: str
    sql: str = ""


@dataclass
class Migration:
    """One revision: its file, the SQL that it runs, and what is wrong with it."""

    revision: str
    file: Path
    sql: str = ""
    findings: list[Finding] = field(default_factory=list)


def check(alembic: Path, rules: Path = RULES) -> list[Migration]:
    """Return every migration of a project in its order, with its findings.

    Args:
        alembic: the project's alembic.ini.
        rules: squawk's configuration.

    Raises:
        RuntimeError: squawk did not do its work.
    """
    migrations = list(_rendered(alembic))
    _ask_squawk(migrations, rules)
    for migration in migrations:
        migration.findings = _reviewed(migration)
    return migrations


def _rendered(alembic: Path) -> Iterator[Migration]:
    scripts = ScriptDirectory.from_config(Config(alembic))
    for script in reversed(list(scripts.walk_revisions())):
        migration = Migration(script.revision, Path(os.path.relpath(script.path)))
        try:
            migration.sql = _render(alembic, scripts, script)
        except Exception as error:  # noqa: BLE001 - the project's own code may fail in any way
            migration.findings.append(
                Finding(
                    "not-rendered",
                    f"`alembic upgrade --sql` cannot tell what this runs ({type(error).__name__}: {error})."
                    " Write it so that it reads no rows, or behind `if not context.is_offline_mode()`.",
                )
            )
        yield migration


def _render(alembic: Path, scripts: ScriptDirectory, script: Script) -> str:
    """Return what `alembic upgrade --sql` prints for one revision alone, also where branches meet."""
    printed = io.StringIO()
    before = script.down_revision
    options: dict[str, Any] = {
        "fn": lambda _heads, _context: [MigrationStep.upgrade_from_script(scripts.revision_map, script)],
        "as_sql": True,
        "starting_rev": before,
        "destination_rev": script.revision,
    }
    with EnvironmentContext(Config(alembic, output_buffer=printed), scripts, **options):
        scripts.run_env()
    return printed.getvalue()


def _ask_squawk(migrations: list[Migration], rules: Path) -> None:
    """Add what squawk finds to each migration."""
    with tempfile.TemporaryDirectory() as folder:
        files = {f"{folder}/{number}.sql": migration for number, migration in enumerate(migrations)}
        for name, migration in files.items():
            Path(name).write_text(migration.sql, encoding="utf-8")
        done = _squawk("--config", str(rules), "--reporter", "json", *files)
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout)
    except ValueError:
        raise RuntimeError(f"squawk failed: {done.stderr.strip()}") from None
    for entry in found:
        lines = files[entry["file"]].sql.splitlines()[entry["line"] : entry["line_end"] + 1]
        if not _is_harmless(entry, lines):
            message = " ".join(filter(None, (entry["message"], entry["help"])))
            files[entry["file"]].findings.append(Finding(entry["rule_name"], message, "\n".join(lines)))


def _is_harmless(entry: dict[str, Any], lines: list[str]) -> bool:
    """Return whether squawk is wrong: NOT NULL refuses no write of those who do not know the column if it has a default."""
    return (
        entry["rule_name"] == "ban-new-write-restriction"
        and len(lines) == 1
        and lines[0][entry["column"] : entry["column_end"]] == "NOT NULL"
        and re.search(r" ADD COLUMN .* DEFAULT ", lines[0]) is not None
    )


def _squawk(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(SQUAWK), *arguments], input="", capture_output=True, text=True, timeout=TIMEOUT, check=False
    )


def _reviewed(migration: Migration) -> list[Finding]:
    """Return the findings that nothing in the file opts out of, and what is wrong with its opt-outs."""
    broken = {finding.rule for finding in migration.findings}
    accepted: set[str] = set()
    wrong: list[Finding] = []
    for comment in _comments(migration.file):
        match = OPT_OUT.fullmatch(comment)
        rule = match["rule"] if match else ""
        if not match:
            problem = "write it as `# squawk: <rule> -- <reason>`"
        elif not match["reason"]:
            problem = f"say why: `# squawk: {rule} -- <reason>`"
        elif rule in broken:
            accepted.add(rule)
            continue
        elif _squawk("--exclude", rule).returncode:
            problem = f"squawk knows no rule {rule}"
        else:
            problem = f"the migration keeps {rule} (or it does not apply here, see pipeline/migrations.toml): remove it"
        wrong.append(Finding("opt-out", f"`{comment}`: {problem}"))
    return [finding for finding in migration.findings if finding.rule not in accepted] + wrong


def _comments(file: Path) -> list[str]:
    """Return the comments of a Python file that are meant for squawk."""
    with tokenize.open(file) as text:
        tokens = list(tokenize.generate_tokens(text.readline))
    return [
        token.string for token in tokens if token.type == tokenize.COMMENT and COMMENT.match(token.string)
    ]


def _shown(migration: Migration, finding: Finding) -> str:
    """Return a finding as a person reads it."""
    sql = "".join(f"\n    {line}" for line in finding.sql.splitlines())
    return f"{migration.file}: {finding.rule}: {finding.message}{sql}"


def _annotated(migration: Migration, finding: Finding) -> str:
    """Return a finding as GitHub shows it beside the changed file."""
    message = f"{finding.message}\n{finding.sql}".strip()
    for character, escape in (("%", "%25"), ("\r", "%0D"), ("\n", "%0A")):
        message = message.replace(character, escape)
    return f"::error file={migration.file},title={finding.rule}::{message}"


def main(arguments: list[str] | None = None) -> int:
    """Print what is wrong; return 0 if nothing is, 1 otherwise."""
    parser = argparse.ArgumentParser(
        prog="migrations", description="Judge every migration by squawk's rules."
    )
    parser.add_argument("--alembic", type=Path, default=Path("app/alembic.ini"), help="default: %(default)s")
    parser.add_argument(
        "--rules", type=Path, default=RULES, help="squawk's configuration; default: %(default)s"
    )
    given = parser.parse_args(arguments)
    if not given.alembic.is_file():
        parser.error(f"{given.alembic} is missing: name your alembic.ini with --alembic")
    # Alembic would tell of upgrades that nobody runs.
    logging.disable(logging.INFO)
    os.environ["DATABASE_URL"] = NOWHERE
    migrations = check(given.alembic, given.rules)
    show: Callable[[Migration, Finding], str] = (
        _annotated if os.environ.get("GITHUB_ACTIONS") == "true" else _shown
    )
    for migration in migrations:
        for finding in migration.findings:
            print(show(migration, finding))
    wrong = [migration for migration in migrations if migration.findings]
    if wrong:
        revisions = ", ".join(migration.revision for migration in wrong)
        print(
            f"of {len(migrations)} migrations {len(wrong)} would not be safe while the version before serves ({revisions});"
        )
        print("what to do about it: docs/ci.md")
        return 1
    print(f"{len(migrations)} migrations, each safe while the version before serves")
    return 0


if __name__ == "__main__":
    sys.exit(main())
