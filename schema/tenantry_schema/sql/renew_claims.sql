WITH clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now
)
UPDATE tasks AS task
SET lease_until = least(clock.now + %(lease)s, task.deadline)
FROM clock
WHERE task.tenant_id = %(tenant)s AND task.id = ANY (ARRAY(SELECT unnest(%(ids)s::uuid[])))
    AND task.fence = (%(fences)s::bigint[])[array_position(%(ids)s::uuid[], task.id)]
    -- Only what runs has an owner; by its state Postgres might look through all that runs.
    AND task.owner = %(owner)s
    AND (task.deadline IS NULL OR task.deadline > clock.now)
    -- A lease that ran out has given up its place within a limit: somebody else may be in it.
    AND (
        task.lease_until > clock.now
        OR NOT EXISTS (
            SELECT
            FROM task_limits AS bound
            WHERE bound.tenant_id = %(tenant)s AND bound.queue IN (task.queue, '*')
        )
    )
RETURNING task.id
