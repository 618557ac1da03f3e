SELECT
    wanted.place,
    wanted.name,
    class.oid,
    class.relkind::text,
    class.relowner::regrole::text,
    key.partstrat::text,
    ARRAY(
        SELECT coalesce(attname, '(expression)')::text
        FROM unnest(key.partattrs::smallint[]) WITH ORDINALITY AS part (number, position)
        LEFT JOIN pg_catalog.pg_attribute ON attrelid = class.oid AND attnum = part.number
        ORDER BY part.position
    ),
    format_type(control.atttypid, NULL),
    control.attnotnull,
    ARRAY(
        SELECT conname || ' of ' || conrelid::regclass::text
        FROM pg_catalog.pg_constraint
        WHERE confrelid = class.oid AND contype = 'f' AND conparentid = 0
        ORDER BY 1
    ),
    ARRAY(
        SELECT conname::text
        FROM pg_catalog.pg_constraint
        WHERE conrelid = class.oid AND contype = 'f' AND conparentid = 0
        ORDER BY 1
    )
FROM unnest(%(schemas)s::text[], %(tables)s::text[], %(controls)s::text[])
    AS wanted (place, name, control)
LEFT JOIN pg_catalog.pg_namespace AS place ON place.nspname = wanted.place
LEFT JOIN pg_catalog.pg_class AS class
    ON class.relnamespace = place.oid AND class.relname = wanted.name
LEFT JOIN pg_catalog.pg_partitioned_table AS key ON key.partrelid = class.oid
LEFT JOIN pg_catalog.pg_attribute AS control
    ON control.attrelid = class.oid AND control.attname = wanted.control
    AND control.attnum > 0 AND NOT control.attisdropped
