-- Transactions that have a lock on a table. Who may not see others' activity sees their locks.
SELECT DISTINCT pid, virtualtransaction
FROM pg_catalog.pg_locks
WHERE relation = ANY (%(tables)s::oid[])
    AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
    AND granted
    AND pid <> pg_backend_pid()
