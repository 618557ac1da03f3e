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
        %(tenant)s, given.id, given.agent_id, given.actor_id, given.kind, given.queue,
        given.priority, given.payload::jsonb,
        CASE WHEN given.unmet = 0 THEN 'ready' ELSE 'waiting' END,
        CASE WHEN given.unmet = 0 THEN 'new>ready' ELSE 'new>waiting' END, given.unmet,
        greatest(clock.now + given.delay * interval '1 s', given.run_after), given.deadline,
        (%(max_attempts)s::smallint[])[given.retry],
        (%(max_crashes)s::smallint[])[given.retry],
        (%(backoff_ms)s::int[])[given.retry],
        (%(backoff_most_ms)s::int[])[given.retry],
        CASE WHEN (%(dead)s::boolean[])[given.retry] THEN 'dead' ELSE 'failed' END,
        given.idempotency_key, 1, clock.now, clock.now
    FROM clock,
        unnest(
            %(ids)s::uuid[], %(agents)s::uuid[], %(actors)s::uuid[], %(kinds)s::text[],
            %(queues)s::text[], %(priorities)s::smallint[], %(payloads)s::text[],
            %(unmet)s::int[], %(delays)s::float8[], %(run_after)s::timestamptz[],
            %(deadlines)s::timestamptz[], %(retries)s::int[], %(keys)s::text[]
        ) AS given (
            id, agent_id, actor_id, kind, queue, priority, payload, unmet, delay, run_after,
            deadline, retry, idempotency_key
        )
    ON CONFLICT DO NOTHING
    RETURNING id, step, state, queue, updated_at
),
tied AS (
    INSERT INTO task_edges (tenant_id, task_id, needs_id, on_failure)
    SELECT %(tenant)s, given.task_id, given.needs_id, given.on_failure
    FROM unnest(%(tasks)s::uuid[], %(needs)s::uuid[], %(on_failure)s::text[])
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
