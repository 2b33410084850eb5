"""What inventories/application.yml says of the reference application is true of it."""

import subprocess
from pathlib import Path

import yaml
from alembic.config import Config
from alembic.script import ScriptDirectory

ROOT = Path(__file__).resolve().parents[3]


def test_known_prints_the_revisions_of_all_migrations() -> None:
    settings = yaml.safe_load((ROOT / "inventories/application.yml").read_text())["app_deploy_migrations"]
    done = subprocess.run(settings["known"], cwd=ROOT, capture_output=True, text=True, timeout=10, check=True)
    scripts = ScriptDirectory.from_config(Config(ROOT / "app/alembic.ini"))
    assert sorted(done.stdout.split()) == sorted(script.revision for script in scripts.walk_revisions())
