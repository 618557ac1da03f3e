WITH held AS (
    SELECT
        class.*,
        place.nspname::text AS place,
        parent.relname::text AS parent,
        parent.relnamespace = class.relnamespace AS by_time
    FROM pg_catalog.pg_class AS class
    JOIN pg_catalog.pg_namespace AS place ON place.oid = class.relnamespace
    LEFT JOIN pg_catalog.pg_inherits AS inherits ON inherits.inhrelid = class.oid
    LEFT JOIN pg_catalog.pg_class AS parent ON parent.oid = inherits.inhparent
    WHERE place.nspname = ANY (%(schemas)s) AND class.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
        -- A time partition that was retired is nobody's any more: its comment says what it was.
        AND (
            class.relispartition
            OR obj_description(class.oid, 'pg_class') IS NULL
            OR NOT starts_with(obj_description(class.oid, 'pg_class'), '{"tenantry":')
        )
)
SELECT
    place, relname::text, parent, coalesce(by_time, false), 'table', '',
    concat_ws(
        ', ',
        'kind ' || relkind::text,
        'partition of ' || parent,
        CASE WHEN NOT by_time THEN pg_get_expr(relpartbound, oid) END,
        'partitioned by ' || pg_get_partkeydef(oid),
        CASE WHEN relrowsecurity THEN 'row security enabled' END,
        CASE WHEN relforcerowsecurity THEN 'row security forced' END,
        'owner ' || relowner::regrole::text,
        CASE WHEN relpersistence <> 'p' THEN 'persistence ' || relpersistence::text END,
        'storage ' || array_to_string(reloptions, ' ')
    )
FROM held
UNION ALL
SELECT
    place, relname::text, parent, coalesce(by_time, false), 'grant', granted.grantee::regrole::text,
    string_agg(granted.privilege_type, ', ' ORDER BY granted.privilege_type)
FROM held
CROSS JOIN LATERAL aclexplode(relacl) AS granted
WHERE granted.grantee <> held.relowner
GROUP BY place, relname, parent, by_time, granted.grantee
UNION ALL
SELECT
    place, relname::text, parent, coalesce(by_time, false), 'column grant',
    concat(attname, ' to ', granted.grantee::regrole),
    string_agg(granted.privilege_type, ', ' ORDER BY granted.privilege_type)
FROM held
JOIN pg_catalog.pg_attribute ON attrelid = held.oid AND attnum > 0 AND NOT attisdropped
CROSS JOIN LATERAL aclexplode(attacl) AS granted
GROUP BY place, relname, parent, by_time, attname, granted.grantee
UNION ALL
SELECT
    place, relname::text, parent, coalesce(by_time, false), 'column', attname::text,
    concat_ws(
        ' ',
        format_type(atttypid, atttypmod),
        CASE WHEN attnotnull THEN 'NOT NULL' END,
        CASE WHEN attgenerated = '' THEN 'DEFAULT' ELSE 'GENERATED' END
            || ' ' || pg_get_expr(adbin, adrelid),
        CASE WHEN attcollation <> typcollation THEN 'COLLATE ' || attcollation::regcollation END
    )
FROM held
JOIN pg_catalog.pg_attribute ON attrelid = held.oid AND attnum > 0 AND NOT attisdropped
JOIN pg_catalog.pg_type AS type ON type.oid = atttypid
LEFT JOIN pg_catalog.pg_attrdef ON adrelid = attrelid AND adnum = attnum
UNION ALL
SELECT
    place, relname::text, parent, coalesce(by_time, false), 'constraint', conname::text,
    pg_get_constraintdef(rule.oid)
FROM held
-- A column's NOT NULL is a constraint of its own from Postgres 18 on; the column says it already.
JOIN pg_catalog.pg_constraint AS rule ON conrelid = held.oid AND contype <> 'n'
UNION ALL
SELECT
    place, held.relname::text, parent, coalesce(by_time, false), 'index', named.relname::text,
    pg_get_indexdef(indexrelid) || CASE WHEN indisvalid THEN '' ELSE ' (invalid)' END
FROM held
JOIN pg_catalog.pg_index ON indrelid = held.oid
JOIN pg_catalog.pg_class AS named ON named.oid = indexrelid
UNION ALL
SELECT
    place, relname::text, parent, coalesce(by_time, false), 'policy', polname::text,
    concat_ws(
        ' ',
        polcmd::text,
        CASE WHEN NOT polpermissive THEN 'restrictive' END,
        polroles::regrole[]::text,
        'USING ' || pg_get_expr(polqual, polrelid),
        'WITH CHECK ' || pg_get_expr(polwithcheck, polrelid)
    )
FROM held
JOIN pg_catalog.pg_policy ON polrelid = held.oid
UNION ALL
SELECT
    place, relname::text, parent, coalesce(by_time, false), 'trigger', tgname::text,
    pg_get_triggerdef(trigger.oid)
FROM held
JOIN pg_catalog.pg_trigger AS trigger ON tgrelid = held.oid AND NOT tgisinternal
UNION ALL
SELECT
    nspname::text, '', NULL, false, 'schema grant', granted.grantee::regrole::text,
    string_agg(granted.privilege_type, ', ' ORDER BY granted.privilege_type)
FROM pg_catalog.pg_namespace AS place
CROSS JOIN LATERAL aclexplode(nspacl) AS granted
WHERE nspname = ANY (%(schemas)s) AND granted.grantee <> place.nspowner
GROUP BY nspname, granted.grantee
