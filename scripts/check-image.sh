#!/usr/bin/env bash
# Proves that an image of the reference application works: `scripts/check-image.sh IMAGE`.
# As in production, its root file system is read-only and it is not root; it needs no database to start and answer.
set -euo pipefail
image=${1:?usage: scripts/check-image.sh IMAGE}
# Settings as they have to be, with nothing behind them.
settings=(-e DATABASE_URL=postgresql://nobody@127.0.0.1:1/nothing -e REDIS_URL=redis://127.0.0.1:1/0 -e SECRET_KEY=not-a-secret-at-all)
options=(--network none --read-only --tmpfs /tmp "${settings[@]}" "$image")

fail() {
  echo "check-image: error: $*" >&2
  exit 1
}

# $1: what is wrong if the command after it fails.
want() {
  local printed problem=$1
  shift
  printed=$(docker run --rm "${options[@]}" "$@" 2>&1) || fail "$problem: $printed"
}

want "it runs as root" python -c 'import os; assert os.getuid()'
want "the application cannot be imported" python -c 'import app.main, app.worker'
want "the migrations cannot be read" alembic -c app/alembic.ini upgrade head --sql

container=$(docker run --detach "${options[@]}")
trap 'docker rm --force --volumes "$container" >/dev/null' EXIT
deadline=$((SECONDS + 30))
until docker exec "$container" python -m app.healthcheck 2>/dev/null; do
  if [ "$SECONDS" -ge "$deadline" ]; then
    docker logs --tail 20 "$container" >&2
    fail "/health does not answer within 30 s"
  fi
  sleep 0.2
done
docker stop --time 20 "$container" >/dev/null
code=$(docker inspect --format '{{.State.ExitCode}}' "$container")
[ "$code" = 0 ] || fail "it does not end well when it is told to stop: exit code $code"
echo "check-image: $image answers /health, ends well, has its worker and its migrations, and is not root"
