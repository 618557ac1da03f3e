WITH clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now
),
bounds AS MATERIALIZED (
    SELECT
        NOT %(locked)s AND EXISTS (
            SELECT FROM task_limits
            WHERE tenant_id = %(tenant)s AND queue IN (%(queue)s, '*')
        ) AS limited
),
-- Whose lease ran out comes first: it waits for longest.
--
-- The limits stand in the text. For a parameter Postgres expects a tenth of all rows, finds a plan for
-- each execution cheaper than that, and so plans every claim anew, which takes as long as the claim.
expired AS MATERIALIZED (
    SELECT task.id
    FROM tasks AS task
    WHERE task.tenant_id = %(tenant)s AND task.queue = %(queue)s AND task.state = 'running'
        AND task.lease_until < (SELECT now FROM clock)
        AND NOT (SELECT limited FROM bounds)
    ORDER BY task.lease_until
    LIMIT {most}
    FOR UPDATE SKIP LOCKED
),
-- One range of the index for each priority: a range over all of them would walk over every task of
-- a higher priority that is not due yet.
ready AS MATERIALIZED (
    SELECT due.id
    FROM generate_series(9, 0, -1) AS level (priority)
    CROSS JOIN LATERAL (
        SELECT task.id
        FROM tasks AS task
        WHERE task.tenant_id = %(tenant)s AND task.queue = %(queue)s AND task.state = 'ready'
            AND task.priority = level.priority
            AND task.run_after <= (SELECT now FROM clock)
            AND NOT (SELECT limited FROM bounds)
        ORDER BY task.run_after
        LIMIT {most}
        FOR UPDATE SKIP LOCKED
    ) AS due
    LIMIT {most} - (SELECT count(*) FROM expired)
),
taken AS (
    UPDATE tasks AS task
    SET
        change = task.state || '>running',
        state = 'running',
        step = task.step + 1,
        attempt = task.attempt + 1,
        crashes = task.crashes + CASE WHEN task.state = 'running' THEN 1 ELSE 0 END,
        fence = task.fence + 1,
        owner = %(owner)s,
        owner_actor = %(actor)s,
        lease_until = least(clock.now + %(lease)s, task.deadline),
        updated_at = greatest(clock.now, task.updated_at)
    FROM clock
    WHERE task.tenant_id = %(tenant)s
        AND task.id = ANY (ARRAY(SELECT id FROM expired UNION ALL SELECT id FROM ready))
        AND task.state IN ('ready', 'running')
    RETURNING task.*, task.deadline <= clock.now AS late
),
noted AS (
    INSERT INTO transitions (tenant_id, at, task_id, step, fence, from_state, to_state, owner)
    SELECT %(tenant)s, updated_at, id, step, fence, split_part(change, '>', 1), state, owner
    FROM taken
)
SELECT
    bounds.limited,
    taken.id, taken.fence, taken.queue, taken.kind, taken.payload, taken.priority,
    taken.attempt, taken.crashes, taken.max_attempts, taken.max_crashes,
    taken.backoff_ms, taken.backoff_most_ms, taken.exhausted,
    taken.lease_until, taken.deadline, coalesce(taken.late, false),
    taken.agent_id, taken.actor_id, taken.progress, taken.owner,
    EXISTS (
        SELECT FROM task_edges AS edge
        WHERE edge.tenant_id = %(tenant)s AND edge.needs_id = taken.id
    )
FROM bounds
LEFT JOIN taken ON true
ORDER BY taken.priority DESC, taken.run_after
