-- Transactions that have a lock on a table and do not end: a detach would wait for them.
SELECT lock.pid, extract(epoch FROM clock_timestamp() - activity.xact_start)::float8
FROM pg_catalog.pg_locks AS lock
JOIN pg_catalog.pg_stat_activity AS activity USING (pid)
WHERE lock.relation = ANY (%(tables)s::oid[])
    AND lock.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
    AND lock.pid <> pg_backend_pid()
    AND activity.xact_start < clock_timestamp() - %(patience)s * interval '1 second'
ORDER BY activity.xact_start
LIMIT 1
