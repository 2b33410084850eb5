#!/bin/sh
# Stand-in for the entrypoint of redis:7-alpine.
set -eu

# `docker run redis:7-alpine --appendonly yes` or `… /etc/redis.conf` mean the server's arguments.
case ${1:-} in
    -* | *.conf) set -- redis-server "$@" ;;
esac

if [ "$1" = redis-server ]; then
    # The official image switches protected mode off: other containers reach the server by the network.
    case "$*" in
        *protected-mode*) ;;
        *) set -- "$@" --protected-mode no ;;
    esac
    if [ "$(id -u)" = 0 ]; then
        find /data \! -user redis -exec chown redis '{}' +
        exec setpriv --reuid=redis --regid=redis --init-groups -- "$@"
    fi
fi

exec "$@"
