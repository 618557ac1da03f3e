WITH clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now
),
taken AS (
    UPDATE tasks AS task
    SET
        change = task.state || '>running',
        step = task.step + 1,
        fence = task.fence + 1,
        owner = %(owner)s,
        lease_until = least(clock.now + %(lease)s, task.deadline),
        updated_at = greatest(clock.now, task.updated_at)
    FROM clock
    WHERE task.tenant_id = %(tenant)s AND task.owner_actor = %(actor)s AND task.state = 'running'
    RETURNING task.*, task.deadline <= clock.now AS late
),
noted AS (
    INSERT INTO transitions (tenant_id, at, task_id, step, fence, from_state, to_state, owner)
    SELECT %(tenant)s, updated_at, id, step, fence, split_part(change, '>', 1), state, owner
    FROM taken
)
SELECT
    id, fence, queue, kind, payload, priority, attempt, crashes, max_attempts, max_crashes,
    backoff_ms, backoff_most_ms, exhausted, lease_until, deadline, coalesce(late, false),
    agent_id, actor_id, progress, owner,
    EXISTS (
        SELECT FROM task_edges AS edge
        WHERE edge.tenant_id = %(tenant)s AND edge.needs_id = taken.id
    )
FROM taken
ORDER BY priority DESC, run_after
