-- Written by `python -m tenantry_ops.fleet.scripts FOLDER`; do not edit.
GRANT EXECUTE ON FUNCTION pg_catalog.pg_promote(boolean, integer) TO "tenantry_operator";
GRANT EXECUTE ON FUNCTION pg_catalog.pg_reload_conf() TO "tenantry_operator";
