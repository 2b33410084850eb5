"""Tasks may have a due date; the worker marks those past it."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

INDEX = "tasks_waiting_due_at"


def upgrade() -> None:
    """Add two columns and the worker's index, without blocking writes to a table that is in use."""
    # An interruption may leave the columns without the index: every step can be taken again.
    op.add_column("tasks", sa.Column("due_at", sa.DateTime(timezone=True)), if_not_exists=True)
    # A constant default needs no rewrite of the table since PostgreSQL 11.
    overdue = sa.Column("overdue", sa.Boolean, server_default=sa.false(), nullable=False)
    op.add_column("tasks", overdue, if_not_exists=True)
    # CONCURRENTLY cannot run inside a transaction; an interrupted run leaves an invalid index behind.
    # squawk: ban-drop-index -- only such a one is dropped: no version before has an index of this name
    with op.get_context().autocommit_block():
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {INDEX}")
        op.execute(
            f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {INDEX} ON tasks (due_at) WHERE NOT done AND NOT overdue"
        )


def downgrade() -> None:
    """Forget due dates."""
    op.drop_index(INDEX, "tasks")
    op.drop_column("tasks", "overdue")
    op.drop_column("tasks", "due_at")
