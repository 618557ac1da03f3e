#!/bin/sh
# libpq refuses a password file that others may read, which Compose's secrets are.
set -eu
PGPASSWORD=$(cat "${TENANTRY_SECRETS:-/run/secrets}/operator_password")
export PGPASSWORD
exec "$@"
