-- Written by `python -m tenantry_ops.fleet.scripts FOLDER`; do not edit.
DO $make$ BEGIN
    CREATE ROLE "tenantry_replication";
EXCEPTION WHEN duplicate_object THEN
    NULL;
END $make$;
ALTER ROLE "tenantry_replication" LOGIN REPLICATION;
DO $make$ BEGIN
    CREATE ROLE "tenantry_owner";
EXCEPTION WHEN duplicate_object THEN
    NULL;
END $make$;
ALTER ROLE "tenantry_owner" NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOLOGIN NOBYPASSRLS;
DO $make$ BEGIN
    CREATE ROLE "tenantry_app";
EXCEPTION WHEN duplicate_object THEN
    NULL;
END $make$;
ALTER ROLE "tenantry_app" NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION LOGIN NOINHERIT NOBYPASSRLS;
DO $make$ BEGIN
    CREATE ROLE "tenantry_read";
EXCEPTION WHEN duplicate_object THEN
    NULL;
END $make$;
ALTER ROLE "tenantry_read" NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION LOGIN NOINHERIT NOBYPASSRLS;
DO $make$ BEGIN
    CREATE ROLE "tenantry_operator";
EXCEPTION WHEN duplicate_object THEN
    NULL;
END $make$;
ALTER ROLE "tenantry_operator" NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION LOGIN INHERIT BYPASSRLS;
DO $make$ BEGIN
    CREATE ROLE "tenantry_worker";
EXCEPTION WHEN duplicate_object THEN
    NULL;
END $make$;
ALTER ROLE "tenantry_worker" NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOLOGIN NOBYPASSRLS;
GRANT "tenantry_owner" TO "tenantry_operator";
GRANT "tenantry_worker" TO "tenantry_app";
ALTER ROLE "tenantry_app" SET search_path = '';
ALTER ROLE "tenantry_app" SET row_security = on;
ALTER ROLE "tenantry_read" SET search_path = '';
ALTER ROLE "tenantry_read" SET row_security = on;
GRANT pg_read_all_stats, pg_checkpoint, pg_signal_backend TO "tenantry_operator";
GRANT ALTER SYSTEM ON PARAMETER default_transaction_read_only, synchronous_standby_names TO "tenantry_operator";
GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_dir(text, boolean, boolean) TO "tenantry_replication";
GRANT EXECUTE ON FUNCTION pg_catalog.pg_stat_file(text, boolean) TO "tenantry_replication";
GRANT EXECUTE ON FUNCTION pg_catalog.pg_read_binary_file(text) TO "tenantry_replication";
GRANT EXECUTE ON FUNCTION pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean) TO "tenantry_replication";
