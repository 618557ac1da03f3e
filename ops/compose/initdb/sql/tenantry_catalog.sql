-- Written by `python -m tenantry_ops.fleet.scripts FOLDER`; do not edit.
CREATE DATABASE "tenantry_catalog" OWNER "tenantry_owner";
REVOKE ALL ON DATABASE "tenantry_catalog" FROM PUBLIC;
GRANT CONNECT ON DATABASE "tenantry_catalog" TO "tenantry_app", "tenantry_read", "tenantry_operator";
