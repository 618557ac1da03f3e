SELECT
    schema.nspname,
    bucket_table.relname,
    bucket_table.relrowsecurity AND bucket_table.relforcerowsecurity,
    (SELECT count(*) FROM pg_policy AS policy WHERE policy.polrelid = bucket_table.oid)
FROM pg_class AS bucket_table
JOIN pg_namespace AS schema ON schema.oid = bucket_table.relnamespace
WHERE schema.nspname ~ '^bucket_[0-9]{4,}(_g[0-9]+)?$' AND bucket_table.relkind IN ('r', 'p')
