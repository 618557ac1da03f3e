-- Whatever may have the name of a partition, in the schemas of the tables: also others' partitions.
SELECT
    place.nspname::text,
    class.relname::text,
    CASE WHEN NOT class.relispartition THEN obj_description(class.oid, 'pg_class') END
FROM pg_catalog.pg_class AS class
JOIN pg_catalog.pg_namespace AS place ON place.oid = class.relnamespace
WHERE place.nspname = ANY (%(schemas)s)
    AND class.relname ~ '_p'
    -- Of indexes only those that stand alone: there are several for each partition.
    AND NOT (class.relispartition AND class.relkind IN ('i', 'I'))
