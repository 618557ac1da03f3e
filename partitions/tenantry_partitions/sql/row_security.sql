SELECT
    class.relrowsecurity,
    class.relforcerowsecurity,
    polname::text,
    polpermissive,
    polcmd::text,
    ARRAY(SELECT rolname::text FROM pg_catalog.pg_roles WHERE oid = ANY (polroles) ORDER BY 1),
    pg_get_expr(polqual, polrelid),
    pg_get_expr(polwithcheck, polrelid)
FROM pg_catalog.pg_class AS class
LEFT JOIN pg_catalog.pg_policy ON polrelid = class.oid
WHERE class.oid = %(table)s
ORDER BY polname
