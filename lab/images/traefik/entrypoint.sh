#!/bin/sh
# Stand-in for the entrypoint of traefik:v3: options alone, or one of its subcommands, mean Traefik itself.
set -e

if [ "${1#-}" != "$1" ]; then
    set -- traefik "$@"
elif [ -n "$1" ] && traefik "$1" --help >/dev/null 2>&1; then
    set -- traefik "$@"
fi

exec "$@"
