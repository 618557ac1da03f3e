WITH clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now
),
made AS (
    INSERT INTO tasks (
        tenant_id, id, agent_id, actor_id, kind, queue, priority, payload, state, change, unmet,
        run_after, deadline, max_attempts, max_crashes, backoff_ms, backoff_most_ms, exhausted,
        idempotency_key, step, created_at, updated_at
    )
    SELECT
        %(tenant)s, given.id, given.agent_id, given.actor_id, shape.kind, shape.queue,
        shape.priority, given.payload::jsonb,
        CASE WHEN given.unmet = 0 THEN 'ready' ELSE 'waiting' END,
        CASE WHEN given.unmet = 0 THEN 'new>ready' ELSE 'new>waiting' END, given.unmet,
        greatest(clock.now + shape.delay * interval '1 s', given.run_after), given.deadline,
        shape.max_attempts, shape.max_crashes, shape.backoff_ms, shape.backoff_most_ms,
        CASE WHEN shape.dead THEN 'dead' ELSE 'failed' END,
        given.idempotency_key, 1, clock.now, clock.now
    FROM clock,
        unnest(
            %(ids)b::uuid[], %(agents)b::uuid[], %(actors)b::uuid[], %(payloads)b::text[],
            %(unmet)b::int[], %(run_after)b::timestamptz[], %(deadlines)b::timestamptz[],
            %(keys)b::text[], %(shapes)b::int[]
        ) AS given (
            id, agent_id, actor_id, payload, unmet, run_after, deadline, idempotency_key, shape
        )
    JOIN
        unnest(
            %(kinds)b::text[], %(queues)b::text[], %(priorities)b::smallint[],
            %(delays)b::float8[], %(max_attempts)b::smallint[], %(max_crashes)b::smallint[],
            %(backoff_ms)b::int[], %(backoff_most_ms)b::int[], %(dead)b::boolean[]
        ) WITH ORDINALITY AS shape (
            kind, queue, priority, delay, max_attempts, max_crashes, backoff_ms, backoff_most_ms,
            dead, place
        )
        ON shape.place = given.shape
    ON CONFLICT DO NOTHING
    RETURNING id, step, state, queue, updated_at
),
tied AS (
    INSERT INTO task_edges (tenant_id, task_id, needs_id, on_failure)
    SELECT %(tenant)s, given.task_id, given.needs_id, given.on_failure
    FROM unnest(%(tasks)b::uuid[], %(needs)b::uuid[], %(on_failure)b::text[])
        AS given (task_id, needs_id, on_failure)
    WHERE EXISTS (SELECT FROM made)
),
noted AS (
    INSERT INTO transitions (tenant_id, at, task_id, step, from_state, to_state)
    SELECT %(tenant)s, updated_at, id, step, 'new', state
    FROM made
),
told AS MATERIALIZED (
    SELECT pg_notify(%(channel)s, concat_ws(' ', %(tenant)s, queue))
    FROM made
    WHERE state = 'ready' AND %(wake)s
    GROUP BY queue
)
SELECT id, (SELECT count(*) FROM told) FROM made
