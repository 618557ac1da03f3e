SELECT nspname, has_schema_privilege(%s, oid, 'USAGE')
FROM pg_namespace
WHERE nspname ~ '^bucket_[0-9]{4,}(_g[0-9]+)?$'
