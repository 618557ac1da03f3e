#!/usr/bin/env bash
# The postgres image runs this once, on a new primary that only its own socket leads to: roles and
# databases as the embedded fleet has them, passwords, and what the replicas need.
set -euo pipefail

here=$(dirname "${BASH_SOURCE[0]}")
run=(psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres)

"${run[@]}" --file "$here/sql/roles.sql"
for database in $TENANTRY_DATABASES; do
    "${run[@]}" --file "$here/sql/$database.sql"
done
# Rights on functions hold in one database: the operator promotes from the shard's.
"${run[@]}" --dbname tenantry --file "$here/sql/promotion.sql"

for role in app read operator replication; do
    password=$(<"${TENANTRY_SECRETS:-/run/secrets}/${role}_password")
    : "${password:?the password of tenantry_$role is empty: set it in .env}"
    # \password sends a SCRAM verifier only. Without a terminal it reads what it asks for twice.
    printf '%s\n%s\n' "$password" "$password" |
        setsid --wait "${run[@]}" --command "\\password tenantry_$role"
done

for replica in $TENANTRY_REPLICAS; do
    "${run[@]}" --set slot="${replica//-/_}" \
        <<<"SELECT pg_create_physical_replication_slot(:'slot') \\g /dev/null"
done
echo "host replication tenantry_replication all scram-sha-256" >>"$PGDATA/pg_hba.conf"
