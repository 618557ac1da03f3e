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
        error = coalesce(%(error)s::text, task.error),
        run_after = clock.now + %(delay)s::interval,
        updated_at = greatest(clock.now, task.updated_at)
    FROM clock
    WHERE task.tenant_id = %(tenant)s AND task.id = ANY (ARRAY(SELECT unnest(%(ids)s::uuid[])))
        AND task.fence = (%(fences)s::bigint[])[array_position(%(ids)s::uuid[], task.id)]
        -- Only what runs has an owner; by its state Postgres might look through all that runs.
        AND task.owner = %(owner)s
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
