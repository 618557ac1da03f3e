WITH clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now
),
requeued AS (
    UPDATE tasks AS task
    SET
        change = task.state || '>ready',
        state = 'ready',
        step = task.step + 1,
        attempt = 0,
        crashes = 0,
        run_after = clock.now,
        updated_at = greatest(clock.now, task.updated_at)
    FROM clock
    WHERE task.tenant_id = %(tenant)s AND task.id = ANY (%(ids)s::uuid[]) AND task.state = 'dead'
    RETURNING task.*
),
noted AS (
    INSERT INTO transitions (tenant_id, at, task_id, step, fence, from_state, to_state)
    SELECT %(tenant)s, updated_at, id, step, fence, split_part(change, '>', 1), state
    FROM requeued
),
told AS MATERIALIZED (
    SELECT pg_notify(%(channel)s, concat_ws(' ', %(tenant)s, queue))
    FROM requeued
    GROUP BY queue
)
SELECT id, (SELECT count(*) FROM told) FROM requeued
