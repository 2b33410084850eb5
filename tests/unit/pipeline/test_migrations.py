"""Migrations that would break the version that still serves are found by the real squawk, from real Alembic SQL."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import indent

import pytest

from pipeline import migrations

ROOT = Path(__file__).resolve().parents[3]
TABLE = (
    'op.create_table("tasks", sa.Column("id", sa.BigInteger, primary_key=True), sa.Column("title", sa.Text))'
)

ENVIRONMENT = """
from alembic import context
context.configure(dialect_name="postgresql", literal_binds=True, transaction_per_migration=True,
                  dialect_opts={"paramstyle": "named"})
with context.begin_transaction():
    context.run_migrations()
"""


class Project:
    """A project with Alembic."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.alembic = folder / "alembic.ini"
        (folder / "versions").mkdir()
        self.alembic.write_text("[alembic]\nscript_location = %(here)s\npath_separator = os\n")
        (folder / "env.py").write_text(ENVIRONMENT)
        self.add("0001", None, TABLE)

    def add(self, revision: str, before: str | tuple[str, ...] | None, upgrade: str) -> None:
        """Write a migration whose `upgrade` does this."""
        text = "import sqlalchemy as sa\nfrom alembic import context, op\n"
        text += f"revision = {revision!r}\ndown_revision = {before!r}\n\ndef upgrade():\n{indent(upgrade, '    ')}\n"
        (self.folder / "versions" / f"v{revision}.py").write_text(text)

    def broken(self) -> dict[str, set[str]]:
        """The rules that each revision breaks."""
        return {
            found.revision: {finding.rule for finding in found.findings}
            for found in migrations.check(self.alembic)
            if found.findings
        }

    def run(self, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the command as a person does."""
        return subprocess.run(
            [sys.executable, "-m", "pipeline.migrations", "--alembic", self.alembic],
            cwd=ROOT,
            env={**os.environ, "GITHUB_ACTIONS": "", **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_the_reference_applications_own_are_safe() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.migrations"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    count = len(list((ROOT / "app/migrations/versions").glob("v*.py")))
    assert done.stdout == f"{count} migrations, each safe while the version before serves\n"
    assert done.stderr == ""


@pytest.mark.parametrize(
    "upgrade",
    [
        'op.add_column("tasks", sa.Column("due_at", sa.DateTime(timezone=True)))',
        'op.add_column("tasks", sa.Column("done", sa.Boolean, server_default=sa.false(), nullable=False))',
        (
            'op.create_table("notes", sa.Column("id", sa.BigInteger, primary_key=True))\n'
            'op.create_index("notes_id", "notes", ["id"])'
        ),
        (
            "with op.get_context().autocommit_block():\n"
            '    op.create_index("tasks_title", "tasks", ["title"], postgresql_concurrently=True, if_not_exists=True)'
        ),
        "op.execute(\"UPDATE tasks SET title = 'untitled' WHERE title IS NULL\")",
    ],
)
def test_what_the_version_before_does_not_notice_is_fine(project: Project, upgrade: str) -> None:
    project.add("0002", "0001", upgrade)

    assert project.broken() == {}


@pytest.mark.parametrize(
    ("upgrade", "rule"),
    [
        ('op.drop_column("tasks", "title")', "ban-drop-column"),
        ('op.drop_table("tasks")', "ban-drop-table"),
        ('op.alter_column("tasks", "title", new_column_name="name")', "renaming-column"),
        ('op.rename_table("tasks", "jobs")', "renaming-table"),
        ('op.add_column("tasks", sa.Column("owner", sa.Text, nullable=False))', "adding-required-field"),
        ('op.alter_column("tasks", "title", nullable=False)', "adding-not-nullable-field"),
        ('op.alter_column("tasks", "title", type_=sa.BigInteger)', "changing-column-type"),
        ('op.alter_column("tasks", "title", server_default=None)', "ban-drop-default"),
        ('op.create_index("tasks_title", "tasks", ["title"])', "require-concurrent-index-creation"),
        (
            'op.create_check_constraint("titled", "tasks", "title IS NOT NULL")',
            "constraint-missing-not-valid",
        ),
        (
            'op.execute("ALTER TABLE tasks ADD CONSTRAINT titled CHECK (title IS NOT NULL) NOT VALID")',
            "ban-new-write-restriction",
        ),
        (
            'op.execute("ALTER TABLE tasks ADD COLUMN size int DEFAULT 1 CHECK (size > 0)")',
            "ban-new-write-restriction",
        ),
        ('op.create_unique_constraint("one_title", "tasks", ["title"])', "disallowed-unique-constraint"),
        (
            (
                "with op.get_context().autocommit_block():\n"
                '    op.create_index("tasks_title", "tasks", ["title"], postgresql_concurrently=True)'
            ),
            "prefer-robust-stmts",
        ),
        ("op.execute(\"ALTER TYPE mood ADD VALUE 'glad'\")", "ban-add-enum-value"),
        ('op.execute("nonsense")', "syntax-error"),
        ('op.get_bind().execute(sa.text("SELECT id FROM tasks")).all()', "not-rendered"),
    ],
)
def test_what_breaks_the_version_before_is_found(project: Project, upgrade: str, rule: str) -> None:
    project.add("0002", "0001", upgrade)

    broken = project.broken()

    assert list(broken) == ["0002"]
    assert rule in broken["0002"]


def test_an_opt_out_with_a_reason_counts_for_its_rule_in_its_file_alone(project: Project) -> None:
    reason = "# squawk: ban-drop-column -- nothing has read it since v1.4"
    project.add("0002", "0001", f'{reason}\nop.drop_column("tasks", "title")\nop.drop_table("tasks")')
    project.add("0003", "0002", 'op.drop_column("tasks", "id")')

    assert project.broken() == {"0002": {"ban-drop-table"}, "0003": {"ban-drop-column"}}


@pytest.mark.parametrize(
    ("comment", "problem", "rules"),
    [
        ("# squawk: ban-drop-column", "say why", {"ban-drop-column", "opt-out"}),
        ("# squawk: ban-drop-column --", "write it as", {"ban-drop-column", "opt-out"}),
        ("# squawk ignore", "write it as", {"ban-drop-column", "opt-out"}),
        ("# squawk: ban-columns -- old", "squawk knows no rule", {"ban-drop-column", "opt-out"}),
        (
            "# squawk: ban-drop-table -- old",
            "the migration keeps ban-drop-table",
            {"ban-drop-column", "opt-out"},
        ),
        ("# squawk: prefer-identity -- old", "does not apply here", {"ban-drop-column", "opt-out"}),
        ('"# squawk: ban-drop-column -- text, no comment"', "", {"ban-drop-column"}),
    ],
)
def test_an_opt_out_that_says_nothing_is_a_problem(
    project: Project, comment: str, problem: str, rules: set[str]
) -> None:
    project.add("0002", "0001", f'{comment}\nop.drop_column("tasks", "title")')

    assert project.broken() == {"0002": rules}
    messages = [finding.message for finding in migrations.check(project.alembic)[1].findings]
    assert any(problem in message for message in messages)


def test_where_branches_meet_each_revision_answers_for_itself(project: Project) -> None:
    project.add("0002a", "0001", 'op.add_column("tasks", sa.Column("a", sa.Text))')
    project.add("0002b", "0001", 'op.drop_column("tasks", "title")')
    project.add("0003", ("0002a", "0002b"), 'op.add_column("tasks", sa.Column("c", sa.Text))')

    assert project.broken() == {"0002b": {"ban-drop-column"}}


def test_a_person_reads_file_rule_and_sql(project: Project) -> None:
    project.add("0002", "0001", 'op.drop_column("tasks", "title")')

    done = project.run()

    assert done.returncode == 1
    assert "v0002.py: ban-drop-column: " in done.stdout
    assert "\n    ALTER TABLE tasks DROP COLUMN title;\n" in done.stdout
    assert "of 2 migrations 1 would not be safe while the version before serves (0002)" in done.stdout
    assert done.stderr == ""


def test_github_shows_it_beside_the_file(project: Project) -> None:
    project.add("0002", "0001", 'op.execute("ALTER TABLE tasks DROP COLUMN title /* 50% */")')

    done = project.run(GITHUB_ACTIONS="true")

    (line,) = (line for line in done.stdout.splitlines() if line.startswith("::"))
    assert line.startswith("::error file=")
    assert "v0002.py,title=ban-drop-column::" in line
    assert line.endswith("%0AALTER TABLE tasks DROP COLUMN title /* 50%25 */;")


def test_no_database_that_somebody_exported_is_named(project: Project) -> None:
    (project.folder / "env.py").write_text(f"import os\nprint(os.environ['DATABASE_URL'])\n{ENVIRONMENT}")

    done = project.run(DATABASE_URL="postgresql://production")

    assert "production" not in done.stdout
    assert migrations.NOWHERE in done.stdout


def test_a_missing_alembic_ini_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.migrations", "--alembic", tmp_path / "alembic.ini"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "is missing: name your alembic.ini with --alembic" in done.stderr
