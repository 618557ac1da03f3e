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
GRANT "tenantry_owner" TO "tenantry_operator";
ALTER ROLE "tenantry_app" SET search_path = '';
ALTER ROLE "tenantry_app" SET row_security = on;
ALTER ROLE "tenantry_read" SET search_path = '';
ALTER ROLE "tenantry_read" SET row_security = on;
