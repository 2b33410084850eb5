#!/usr/bin/env bash
# Locks every requirements file with hashes, for all Python versions at once, and without naming any index.
set -euo pipefail
cd "$(dirname "$0")/.."

for name in requirements/uv app/requirements requirements/dev; do
  .venv/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
    --no-header --no-emit-index-url --no-emit-find-links "$name.in" --output-file "$name.txt"
done
