-- Written by `python -m tenantry_ops.fleet.scripts FOLDER`; do not edit.
CREATE DATABASE "tenantry" OWNER "tenantry_owner";
REVOKE ALL ON DATABASE "tenantry" FROM PUBLIC;
GRANT CONNECT ON DATABASE "tenantry" TO "tenantry_app", "tenantry_read", "tenantry_operator";
