WITH clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now
),
met AS MATERIALIZED (
    SELECT edge.task_id AS id, count(*)::int AS edges
    FROM task_edges AS edge
    WHERE edge.tenant_id = %(tenant)s AND edge.needs_id = ANY (%(ids)s::uuid[])
    GROUP BY edge.task_id
),
-- Always in the same order, so that two who finish needs of the same tasks do not block each other.
held AS MATERIALIZED (
    SELECT task.id
    FROM tasks AS task
    WHERE task.tenant_id = %(tenant)s AND task.id = ANY (ARRAY(SELECT id FROM met))
        AND task.state = 'waiting'
    ORDER BY task.id
    FOR UPDATE
),
weights AS MATERIALIZED (
    SELECT jsonb_object_agg(id, edges) AS of_task FROM met
),
-- Joined to nothing, so that only their own key leads to these rows: a plan that was made for few
-- of a tenant's tasks would walk over all of them when they are many.
counted AS (
    UPDATE tasks AS task
    SET
        unmet = task.unmet - ((SELECT of_task FROM weights) ->> task.id::text)::int,
        change = CASE
            WHEN task.unmet = ((SELECT of_task FROM weights) ->> task.id::text)::int
                THEN task.state || '>ready'
            ELSE task.change
        END,
        state = CASE
            WHEN task.unmet = ((SELECT of_task FROM weights) ->> task.id::text)::int
                THEN 'ready'
            ELSE task.state
        END,
        step = task.step + CASE
            WHEN task.unmet = ((SELECT of_task FROM weights) ->> task.id::text)::int THEN 1
            ELSE 0
        END,
        run_after = greatest(clock.now, task.run_after),
        updated_at = greatest(clock.now, task.updated_at)
    FROM clock
    WHERE task.tenant_id = %(tenant)s AND task.state = 'waiting'
        AND task.id = ANY (ARRAY(SELECT id FROM held))
    RETURNING task.id, task.step, task.fence, task.change, task.state, task.updated_at, task.queue
),
noted AS (
    INSERT INTO transitions (tenant_id, at, task_id, step, fence, from_state, to_state, owner)
    SELECT %(tenant)s, updated_at, id, step, fence, split_part(change, '>', 1), state, NULL
    FROM counted
    WHERE state = 'ready'
)
SELECT pg_notify(%(channel)s, concat_ws(' ', %(tenant)s, queue))
FROM counted
WHERE state = 'ready'
GROUP BY queue
HAVING count(*) > %(own)s
