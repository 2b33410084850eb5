"""Images of the reference application, and what is wrong with each: broken when they are built, not by a setting."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lab import engine, registry
from lab.build import REPOSITORY, build

ONE, TWO = "sha-fa00001", "sha-fa00002"
GOOD = (ONE, TWO)

# A small layer on top of a good image. The label names the commit, and the application tells what GIT_SHA says.
DOCKERFILE = """\
ARG BASE
FROM ${BASE}
COPY files/ /srv/
ARG COMMIT
ARG TOLD
ARG RECIPE
LABEL org.opencontainers.image.revision=$COMMIT slipway.faults=$RECIPE
ENV GIT_SHA=$TOLD
"""
MIGRATION = '''"""A migration of the fault suite."""

import os
import signal
import time

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


signal.signal(signal.SIGTERM, lambda *_: os._exit(1))


def upgrade() -> None:
    """Change the schema."""
'''
# A main process without it ignores the signal, and each case would wait for the stop grace period.
ENDS_ON_SIGTERM = "import os, signal\nsignal.signal(signal.SIGTERM, lambda *_: os._exit(0))\n"
# The application, and something that happens to it once it serves.
SERVE = """\
import os, socket, threading, time
def later():
    while True:
        try:
            socket.create_connection(("127.0.0.1", 8000), 1).close()
            break
        except OSError:
            time.sleep(0.05)
    happens()
threading.Thread(target=later, daemon=True).start()
from app.__main__ import main
main()
"""


@dataclass(frozen=True)
class Image:
    """What an image does.

    Args:
        program: Python that the container runs in place of the application; empty: the application.
        migration: the statements of one more migration; empty: none.
        told: the commit that the application tells; empty: its own.
        more: lines added to the Dockerfile.
    """

    program: str = ""
    migration: str = ""
    told: str = ""
    more: str = ""


IMAGES = {
    "sha-fa0e417": Image("raise SystemExit('broken on purpose: this version ends at once')\n"),
    # It accepts connections, and never answers on one.
    "sha-fa04a46": Image(
        "import socket, time\nlistener = socket.create_server(('', 8000))\ntime.sleep(3600)\n"
    ),
    "sha-fa00500": Image("""\
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(500, "broken on purpose")
HTTPServer(("", 8000), Handler).serve_forever()
"""),
    "sha-fa0c4a5": Image("def happens():\n    time.sleep(5)\n    os._exit(7)\n" + SERVE),
    # Whoever tries again until it is back tries for too long.
    "sha-fa0c4a6": Image(
        "import time\ntime.sleep(6)\ndef happens():\n    time.sleep(5)\n    os._exit(7)\n" + SERVE
    ),
    "sha-fa05a00": Image(told="0123456789abcdef"),
    # 25 MB in each tenth of a second; bounded, should the limit not hold.
    "sha-fa00000": Image("""\
def happens():
    time.sleep(2)
    kept = []
    while len(kept) < 40:
        kept.append(b"x" * 25_000_000)
        time.sleep(0.1)
    time.sleep(3600)
""" + SERVE),
    # The main process ignores SIGTERM, and tells nobody of it.
    "sha-fa0de4f": Image(
        "import signal, subprocess, sys\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "sys.exit(subprocess.call([sys.executable, '-m', 'app']))\n"
    ),
    "sha-fa0a4b0": Image(more="USER 0\nRUN rm -rf /srv/app\nUSER 10001:10001\n"),
    # Its pull takes seconds, whatever is here already.
    "sha-fa0b160": Image(
        more="USER 0\nRUN head -c 120000000 /dev/urandom > /srv/ballast\nUSER 10001:10001\n"
    ),
    # Good ones; the second takes long enough to be met at work.
    "sha-fa0d001": Image(migration="op.create_table('faults', sa.Column('id', sa.Integer))"),
    "sha-fa0d002": Image(migration="op.execute('select pg_sleep(3)')"),
    "sha-fa0dbad": Image(migration="op.execute('select 1 / 0')"),
    "sha-fa0d4a6": Image(migration="time.sleep(600)"),
    "sha-fa0d10c": Image(migration="op.add_column('projects', sa.Column('fault', sa.Text))"),
}
ENDS, HANGS, ANSWERS_500 = "sha-fa0e417", "sha-fa04a46", "sha-fa00500"
CRASHES, CRASHES_SLOWLY_BACK = "sha-fa0c4a5", "sha-fa0c4a6"
LIES, LEAKS, DEAF, EMPTY = "sha-fa05a00", "sha-fa00000", "sha-fa0de4f", "sha-fa0a4b0"
LARGE = "sha-fa0b160"
MIGRATES, MIGRATES_SLOWLY = "sha-fa0d001", "sha-fa0d002"
MIGRATION_FAILS, MIGRATION_HANGS, MIGRATION_WAITS = "sha-fa0dbad", "sha-fa0d4a6", "sha-fa0d10c"
MIGRATING = (MIGRATES, MIGRATES_SLOWLY)


def make(tag: str) -> None:
    """Build one of them on top of ONE, which must be there, and push it."""
    image = IMAGES[tag]
    base = f"{registry.load().push_address}/{REPOSITORY}:{ONE}"
    with tempfile.TemporaryDirectory(prefix="slipway-faults-") as folder:
        context = Path(folder)
        versions = context / "files/app/migrations/versions"
        versions.mkdir(parents=True)
        text = DOCKERFILE
        if image.program:
            program = f"{ENDS_ON_SIGTERM}{image.program}"
            (context / "files/fault.py").write_text(program, encoding="utf-8")
            text += 'CMD ["python", "/srv/fault.py"]\n'
        if image.migration:
            (versions / "v0004_fault.py").write_text(f"{MIGRATION}    {image.migration}\n", encoding="utf-8")
        for path in context.rglob("*"):
            # Whatever this machine gives new files: the application is not root.
            path.chmod(0o755 if path.is_dir() else 0o644)
        (context / "Dockerfile").write_text(text + image.more, encoding="utf-8")
        commit = tag.removeprefix("sha-")
        wanted = {"BASE": base, "COMMIT": commit, "TOLD": image.told or commit, "RECIPE": recipe(tag)}
        build(tag, context=context, build_args=wanted)


def made(tag: str) -> bool:
    """Whether this very image was built here before."""
    target = f"{registry.load().push_address}/{REPOSITORY}:{tag}"
    told = engine.call("image", "inspect", "--format", '{{index .Config.Labels "slipway.faults"}}', target)
    return told.stdout.strip() == recipe(tag)


def recipe(tag: str) -> str:
    """Return the hash of all that an image is made of, but for the image below it."""
    return hashlib.sha256(f"{IMAGES.get(tag)}{DOCKERFILE}{MIGRATION}{ENDS_ON_SIGTERM}".encode()).hexdigest()[
        :16
    ]
