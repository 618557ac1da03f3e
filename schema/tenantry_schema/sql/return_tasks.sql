WITH clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now
),
returned AS (
    UPDATE tasks AS task
    SET
        change = task.state || '>ready',
        state = 'ready',
        step = task.step + 1,
        attempt = task.attempt - %(refund)s,
        owner = NULL,
        owner_actor = NULL,
        lease_until = NULL,
        error = coalesce(given.error, task.error),
        run_after = clock.now + given.delay,
        updated_at = greatest(clock.now, task.updated_at)
    FROM clock,
        unnest(%(ids)s::uuid[], %(fences)s::bigint[], %(delays)s::interval[], %(errors)s::text[])
            AS given (id, fence, delay, error)
    WHERE task.tenant_id = %(tenant)s AND task.id = ANY (%(ids)s::uuid[])
        AND task.id = given.id AND task.fence = given.fence
        AND task.owner = %(owner)s AND task.state = 'running'
    RETURNING task.*
),
noted AS (
    INSERT INTO transitions
        (tenant_id, at, task_id, step, fence, from_state, to_state, owner, detail)
    SELECT
        %(tenant)s, updated_at, id, step, fence, split_part(change, '>', 1), state, %(owner)s,
        jsonb_build_object('error', error, 'run_after', run_after)
    FROM returned
)
SELECT id FROM returned
