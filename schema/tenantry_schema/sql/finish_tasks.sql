WITH ended AS (
    UPDATE tasks AS task
    SET
        change = task.state || '>done',
        state = 'done',
        step = task.step + 1,
        owner = NULL,
        owner_actor = NULL,
        lease_until = NULL,
        result = given.result::jsonb,
        updated_at = greatest(clock_timestamp(), task.updated_at)
    FROM unnest(%(ids)s::uuid[], %(fences)s::bigint[], %(results)s::text[])
        AS given (id, fence, result)
    WHERE task.tenant_id = %(tenant)s AND task.id = ANY (%(ids)s::uuid[])
        AND task.id = given.id AND task.fence = given.fence
        AND task.owner = %(owner)s AND task.state = 'running'
    RETURNING task.id, task.step, task.fence, task.change, task.state, task.updated_at
),
noted AS (
    INSERT INTO transitions (tenant_id, at, task_id, step, fence, from_state, to_state, owner)
    SELECT %(tenant)s, updated_at, id, step, fence, split_part(change, '>', 1), state, %(owner)s
    FROM ended
)
SELECT
    ended.id,
    EXISTS (
        SELECT FROM task_edges AS edge
        WHERE edge.tenant_id = %(tenant)s AND edge.needs_id = ended.id
    )
FROM ended
