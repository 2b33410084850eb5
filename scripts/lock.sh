#!/usr/bin/env bash
# Locks every requirements file with hashes, for all Python versions at once, and without naming any index.
# Without arguments everything comes to its newest version; `scripts/lock.sh --keep` only adds and removes.
set -euo pipefail
cd "$(dirname "$0")/.."

upgrade=(--upgrade)
if [ "${1:-}" = --keep ]; then upgrade=(); fi

# dev before deploy and site: what runs against servers is a part of what was tested.
for name in requirements/uv app/requirements requirements/dev requirements/deploy requirements/site; do
  .venv/bin/uv pip compile --quiet "${upgrade[@]}" --universal --python-version 3.11 --generate-hashes \
    --no-header --no-emit-index-url --no-emit-find-links "$name.in" --output-file "$name.txt"
done
