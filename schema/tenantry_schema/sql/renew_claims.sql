WITH clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now
)
UPDATE tasks AS task
SET lease_until = least(clock.now + %(lease)s, task.deadline)
FROM clock, unnest(%(ids)s::uuid[], %(fences)s::bigint[]) AS given (id, fence)
WHERE task.tenant_id = %(tenant)s AND task.id = ANY (%(ids)s::uuid[])
    AND task.id = given.id AND task.fence = given.fence
    AND task.owner = %(owner)s AND task.state = 'running'
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
