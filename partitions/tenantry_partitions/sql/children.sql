SELECT
    inhparent,
    place.nspname::text,
    class.relname::text,
    pg_get_expr(class.relpartbound, class.oid),
    inhdetachpending,
    class.relkind <> 'r' OR pg_relation_size(class.oid) > 0,
    obj_description(class.oid, 'pg_class'),
    ARRAY(
        SELECT conname || ':' || convalidated::text
        FROM pg_catalog.pg_constraint
        WHERE conrelid = class.oid AND contype = 'c' AND starts_with(conname, 'tenantry_')
    )
FROM pg_catalog.pg_inherits
JOIN pg_catalog.pg_class AS class ON class.oid = inhrelid
JOIN pg_catalog.pg_namespace AS place ON place.oid = class.relnamespace
WHERE inhparent = ANY (%(parents)s)
