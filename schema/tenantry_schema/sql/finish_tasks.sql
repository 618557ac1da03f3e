WITH ended AS (
    UPDATE tasks AS task
    SET
        change = task.state || '>done',
        state = 'done',
        step = task.step + 1,
        owner = NULL,
        owner_actor = NULL,
        lease_until = NULL,
        result = (%(results)s::text[])[array_position(%(ids)s::uuid[], task.id)]::jsonb,
        updated_at = greatest(clock_timestamp(), task.updated_at)
    WHERE task.tenant_id = %(tenant)s AND task.id = ANY (ARRAY(SELECT unnest(%(ids)s::uuid[])))
        AND task.fence = (%(fences)s::bigint[])[array_position(%(ids)s::uuid[], task.id)]
        -- Only what runs has an owner; by its state Postgres might look through all that runs.
        AND task.owner = %(owner)s
    RETURNING task.id, task.step, task.fence, task.change, task.state, task.updated_at
),
noted AS (
    INSERT INTO transitions (tenant_id, at, task_id, step, fence, from_state, to_state, owner)
    SELECT %(tenant)s, updated_at, id, step, fence, split_part(change, '>', 1), state, %(owner)s
    FROM ended
)
SELECT id FROM ended
