WITH wanted AS MATERIALIZED (
    SELECT given.place, given.name, given.control, class.oid, class.relkind, class.relowner
    FROM unnest(%(schemas)s::text[], %(tables)s::text[], %(controls)s::text[])
        AS given (place, name, control)
    LEFT JOIN pg_catalog.pg_namespace AS place ON place.nspname = given.place
    LEFT JOIN pg_catalog.pg_class AS class
        ON class.relnamespace = place.oid AND class.relname = given.name
),
-- No index leads from a table to the keys that point to it, so they are read once, not per table.
keys AS MATERIALIZED (
    SELECT conrelid, confrelid, conname
    FROM pg_catalog.pg_constraint
    WHERE contype = 'f' AND conparentid = 0
),
incoming AS (
    SELECT
        wanted.oid,
        array_agg(conname || ' of ' || conrelid::regclass::text ORDER BY conname, conrelid) AS names
    FROM wanted
    JOIN keys ON keys.confrelid = wanted.oid
    GROUP BY wanted.oid
),
outgoing AS (
    SELECT wanted.oid, array_agg(conname::text ORDER BY conname) AS names
    FROM wanted
    JOIN keys ON keys.conrelid = wanted.oid
    GROUP BY wanted.oid
)
SELECT
    wanted.place,
    wanted.name,
    wanted.oid,
    wanted.relkind::text,
    wanted.relowner::regrole::text,
    key.partstrat::text,
    ARRAY(
        SELECT coalesce(attname, '(expression)')::text
        FROM unnest(key.partattrs::smallint[]) WITH ORDINALITY AS part (number, position)
        LEFT JOIN pg_catalog.pg_attribute ON attrelid = wanted.oid AND attnum = part.number
        ORDER BY part.position
    ),
    format_type(control.atttypid, NULL),
    control.attnotnull,
    coalesce(incoming.names, '{}'),
    coalesce(outgoing.names, '{}')
FROM wanted
LEFT JOIN incoming ON incoming.oid = wanted.oid
LEFT JOIN outgoing ON outgoing.oid = wanted.oid
LEFT JOIN pg_catalog.pg_partitioned_table AS key ON key.partrelid = wanted.oid
LEFT JOIN pg_catalog.pg_attribute AS control
    ON control.attrelid = wanted.oid AND control.attname = wanted.control
    AND control.attnum > 0 AND NOT control.attisdropped
