#!/usr/bin/env bash
# Copy the primary into an empty data folder, then start as the postgres image does.
set -euo pipefail
umask 077

folder=$(dirname "$PGDATA")
passfile=$folder/passfile
mkdir -p "$folder"
password=$(<"${TENANTRY_SECRETS:-/run/secrets}/replication_password")
echo "*:*:*:tenantry_replication:$password" >"$passfile"

if [ ! -e "$PGDATA/PG_VERSION" ]; then
    # Renamed when it is whole: a copy that was cut off must never be taken for a server.
    rm -rf "$PGDATA.new"
    pg_basebackup --pgdata "$PGDATA.new" --write-recovery-conf --checkpoint=fast --no-password \
        --slot "${TENANTRY_NODE//-/_}" --dbname \
        "$TENANTRY_PRIMARY user=tenantry_replication application_name=$TENANTRY_NODE passfile=$passfile"
    mv -T "$PGDATA.new" "$PGDATA"
fi
exec docker-entrypoint.sh "$@"
