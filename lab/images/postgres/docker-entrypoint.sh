#!/bin/bash
# Stand-in for the entrypoint of postgres:15: makes the cluster on the first start, then runs what it was asked to.
set -Eeuo pipefail

fail() {
    echo "Error: $*" >&2
    exit 1
}

# $1 may come from the variable of that name, or from the file that $1_FILE names (a Docker secret).
from_file() {
    local file="${1}_FILE"
    [ -z "${!file:-}" ] && return
    [ -z "${!1:-}" ] || fail "both $1 and $file are set"
    export "$1=$(<"${!file}")"
}

create_cluster() {
    from_file POSTGRES_PASSWORD
    from_file POSTGRES_USER
    from_file POSTGRES_DB
    local user=${POSTGRES_USER:-postgres} auth=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}
    if [ -z "${POSTGRES_PASSWORD:-}" ] && [ "$auth" != trust ]; then
        fail "Database is uninitialized and superuser password is not specified. Set POSTGRES_PASSWORD."
    fi
    local -a options=()
    read -ra options <<<"${POSTGRES_INITDB_ARGS:-}"
    initdb --username="$user" --pwfile=<(printf '%s\n' "${POSTGRES_PASSWORD:-}") -D "$PGDATA" "${options[@]}"
    printf '\nhost all all all %s\n' "$auth" >>"$PGDATA/pg_hba.conf"
    # As the official image does, a first server answers on the local socket alone and is stopped again: whoever takes
    # its pg_isready for the end of the start falls into the same trap here.
    pg_ctl -D "$PGDATA" -o "-c listen_addresses=''" -w start
    if [ "${POSTGRES_DB:=$user}" != postgres ]; then
        psql -v ON_ERROR_STOP=1 --no-psqlrc --username "$user" --dbname postgres --set db="$POSTGRES_DB" \
            <<<'CREATE DATABASE :"db";'
    fi
    pg_ctl -D "$PGDATA" -m fast -w stop
    echo 'PostgreSQL init process complete; ready for start up.'
}

if [ "${1:0:1}" = - ]; then
    set -- postgres "$@"
fi

if [ "$1" = postgres ]; then
    if [ "$(id -u)" = 0 ]; then
        mkdir -p "$PGDATA"
        chmod 0700 "$PGDATA"
        find "$PGDATA" /var/run/postgresql \! -user postgres -exec chown postgres '{}' +
        exec setpriv --reuid=postgres --regid=postgres --init-groups -- "${BASH_SOURCE[0]}" "$@"
    fi
    if [ ! -s "$PGDATA/PG_VERSION" ]; then
        create_cluster
    fi
    unset POSTGRES_PASSWORD
fi

exec "$@"
