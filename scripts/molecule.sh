#!/usr/bin/env bash
# Runs Molecule scenarios, two at a time: all of them, or those that are named. Each has a log in .lab/logs.
set -euo pipefail
cd "$(dirname "$0")/.."
export LOGS=${SLIPWAY_LAB_DIR:-.lab}/logs NO_COLOR=1
export PATH="$PWD/.venv/bin:$PATH" # where Molecule looks for Ansible's programs

one() {
  local scenario=$1 log=$LOGS/molecule-$1.log began=$SECONDS
  echo "molecule $scenario: started"
  # A run that was killed left the belief behind that its machine is there.
  .venv/bin/molecule reset --scenario-name "$scenario" >"$log" 2>&1
  if .venv/bin/molecule test --scenario-name "$scenario" >"$log" 2>&1; then
    # The test runner's closing line.
    echo "molecule $scenario: passed after $((SECONDS - began)) s: $(grep --extended-regexp '[0-9]+ passed' "$log" | tail -n 1)"
  else
    echo "molecule $scenario: FAILED after $((SECONDS - began)) s; the end of $log:"
    tail -n 120 "$log"
    return 1
  fi
}
export -f one

if [ $# -eq 0 ]; then
  mapfile -t scenarios < <(find molecule -mindepth 2 -maxdepth 2 -name molecule.yml -printf '%h\n' | sed 's#.*/##' | sort)
  set -- "${scenarios[@]}"
fi
mkdir -p "$LOGS"
printf '%s\n' "$@" | xargs --max-procs=2 --replace=NAME bash -c 'one NAME'
