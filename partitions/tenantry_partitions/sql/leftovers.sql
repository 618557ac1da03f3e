-- Whatever may have the name of a partition and is none, in the schemas of the tables.
SELECT place.nspname::text, class.relname::text, obj_description(class.oid, 'pg_class')
FROM pg_catalog.pg_class AS class
JOIN pg_catalog.pg_namespace AS place ON place.oid = class.relnamespace
WHERE place.nspname = ANY (%(schemas)s) AND NOT class.relispartition AND class.relname ~ '_p[0-9]'
