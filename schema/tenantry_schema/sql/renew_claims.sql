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
RETURNING task.id
