#!/usr/bin/env bash
# Runs one playbook against one environment, with everything that it needs from the process environment:
#
#   ENVIRONMENT=production HOST=203.0.113.7 SSH_KEY="$(cat key)" KNOWN_HOSTS="$(cat known_hosts)" \
#     scripts/run-playbook.sh deploy.yml -e tag=sha-1a2b3c4
#
# ENVIRONMENT          staging or production
# HOST, SSH_PORT, SSH_USER, DOMAIN   the server, passed on to the inventory as <ENVIRONMENT>_HOST and so on
# SSH_KEY              private key of the deploy user; it goes into an agent of its own and never into a file
# KNOWN_HOSTS          lines of known_hosts: the server must have one of these keys
# VAULT_PASSWORD       opens the inventory's vault.yml
# ENV_FILE             the text of a whole .env file, in place of the vault
# REGISTRY_USERNAME, REGISTRY_PASSWORD   who may pull the image
# SLIPWAY_VENV         where scripts/setup.sh has installed Ansible (default: .venv of this checkout)
# INVENTORY            the inventory's folder (default: inventories/<ENVIRONMENT> of this checkout)
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

fail() {
  echo "${GITHUB_ACTIONS:+::error::}$*"
  exit 1
}

[ $# -ge 1 ] || fail "which playbook? For example: scripts/run-playbook.sh deploy.yml -e tag=sha-1a2b3c4"
case ${ENVIRONMENT:-} in
staging | production) prefix=${ENVIRONMENT^^} ;;
*) fail "ENVIRONMENT is '${ENVIRONMENT:-}': it is staging or production" ;;
esac
missing=()
[ -n "${HOST:-}" ] || missing+=("${prefix}_HOST")
[ -n "${SSH_KEY:-}" ] || missing+=("${prefix}_SSH_KEY")
[ -n "${KNOWN_HOSTS:-}" ] || missing+=("${prefix}_KNOWN_HOSTS")
[ ${#missing[@]} -eq 0 ] || fail "not set: ${missing[*]}. Store each as a secret of the repository or of the environment $ENVIRONMENT (docs/github.md)"
inventory=${INVENTORY:-$root/inventories/$ENVIRONMENT}
[ -d "$inventory" ] || fail "there is no inventory $inventory: name its folder in the workflow's input inventory"
inventory=$(cd "$inventory" && pwd)

umask 077
private=$(mktemp -d)
agent=
finish() {
  # No connection and no key outlives this run, or a later step could use them.
  for socket in "$private"/cp/*; do
    [ ! -S "$socket" ] || ssh -o ControlPath="$socket" -O exit nobody 2>/dev/null || true
  done
  [ -z "$agent" ] || kill "$agent" 2>/dev/null || true
  rm -rf "$private"
}
trap finish EXIT

mkdir "$private/cp"
printf '%s\n' "$KNOWN_HOSTS" | tr -d '\r' >"$private/known_hosts"
# The agent must not inherit the secrets: they would stand in its environment for as long as it lives.
eval "$(env -i PATH="$PATH" ssh-agent -s -a "$private/agent")" >/dev/null
agent=$SSH_AGENT_PID
printf '%s\n' "$SSH_KEY" | tr -d '\r' | SSH_ASKPASS_REQUIRE=never setsid ssh-add -q - 2>"$private/complaint" \
  || fail "${prefix}_SSH_KEY cannot be used: store a private key without a passphrase, all of its lines ($(tail -n 1 "$private/complaint"))"
unset SSH_KEY KNOWN_HOSTS

# An empty variable counts as not set in the inventories.
export "${prefix}_HOST=$HOST" "${prefix}_PORT=${SSH_PORT:-}" "${prefix}_USER=${SSH_USER:-}" "${prefix}_DOMAIN=${DOMAIN:-}"
export "${prefix}_ENV=${ENV_FILE:-}" ANSIBLE_VAULT_PASSWORD="${VAULT_PASSWORD:-}"
unset ENV_FILE VAULT_PASSWORD HOST
export ANSIBLE_INVENTORY=$inventory
export ANSIBLE_SSH_CONTROL_PATH_DIR=$private/cp
export ANSIBLE_SSH_COMMON_ARGS="-o UserKnownHostsFile=$private/known_hosts -o GlobalKnownHostsFile=/dev/null -o StrictHostKeyChecking=yes -o BatchMode=yes"
cd "$root/ansible"
# Not exec: what is left behind has to be tidied up.
"${SLIPWAY_VENV:-$root/.venv}/bin/ansible-playbook" "$@"
