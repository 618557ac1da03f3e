WITH RECURSIVE clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now
),
-- A claim's owner ends what it holds; without fences whatever is unfinished is ended.
ended AS (
    UPDATE tasks AS task
    SET
        change = task.state || '>' || %(state)s,
        state = %(state)s,
        step = task.step + 1,
        owner = NULL,
        owner_actor = NULL,
        lease_until = NULL,
        error = %(error)s,
        updated_at = greatest(clock.now, task.updated_at)
    FROM clock
    WHERE task.tenant_id = %(tenant)s AND task.id = ANY (%(ids)s::uuid[])
        AND CASE
            WHEN %(fences)s::bigint[] IS NULL
                THEN task.state IN ('waiting', 'ready', 'running', 'dead')
            ELSE
                task.fence = (%(fences)s::bigint[])[array_position(%(ids)s::uuid[], task.id)]
                -- Only what runs has an owner.
                AND task.owner = %(owner)s
        END
    RETURNING task.id, task.step, task.fence, task.change, task.state, task.updated_at, task.error
),
-- What becomes of all that need them, by every path; a dead letter's dependents wait with it.
fate AS (
    SELECT id, state FROM ended WHERE state <> 'dead'
    UNION
    SELECT edge.task_id, CASE WHEN edge.on_failure = 'skip' THEN 'skipped' ELSE fate.state END
    FROM fate
    JOIN task_edges AS edge ON edge.tenant_id = %(tenant)s AND edge.needs_id = fate.id
    WHERE edge.on_failure <> 'ignore'
),
doomed AS MATERIALIZED (
    SELECT
        id,
        CASE
            WHEN bool_or(state = 'failed') THEN 'failed'
            WHEN bool_or(state = 'cancelled') THEN 'cancelled'
            ELSE 'skipped'
        END AS state
    FROM fate
    WHERE id NOT IN (SELECT id FROM ended)
    GROUP BY id
),
held AS MATERIALIZED (
    SELECT task.id
    FROM tasks AS task
    WHERE task.tenant_id = %(tenant)s AND task.state = 'waiting'
        AND task.id = ANY (ARRAY(
            SELECT id FROM doomed
            UNION
            SELECT edge.task_id
            FROM fate
            JOIN task_edges AS edge ON edge.tenant_id = %(tenant)s AND edge.needs_id = fate.id
        ))
    ORDER BY task.id
    FOR UPDATE
),
fates AS MATERIALIZED (
    SELECT jsonb_object_agg(id, state) AS of_task FROM doomed
),
fallen AS (
    UPDATE tasks AS task
    SET
        change = task.state || '>' || ((SELECT of_task FROM fates) ->> task.id::text),
        state = (SELECT of_task FROM fates) ->> task.id::text,
        step = task.step + 1,
        error = 'a task that this one needs did not end as done',
        updated_at = greatest(clock.now, task.updated_at)
    FROM clock
    WHERE task.tenant_id = %(tenant)s AND task.state = 'waiting'
        AND task.id = ANY (ARRAY(
            SELECT id FROM held WHERE (SELECT of_task FROM fates) ? id::text
        ))
    RETURNING task.id, task.step, task.fence, task.change, task.state, task.updated_at
),
-- Only what this statement itself ended meets an edge that ignores failure: nobody counts it twice.
met AS MATERIALIZED (
    SELECT edge.task_id AS id, count(*)::int AS edges
    FROM (
        SELECT id FROM ended WHERE state <> 'dead'
        UNION ALL
        SELECT id FROM fallen
    ) AS gone
    JOIN task_edges AS edge ON edge.tenant_id = %(tenant)s AND edge.needs_id = gone.id
    WHERE edge.on_failure = 'ignore'
        AND edge.task_id NOT IN (SELECT id FROM doomed UNION ALL SELECT id FROM ended)
    GROUP BY edge.task_id
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
        AND task.id = ANY (ARRAY(
            SELECT id FROM held WHERE (SELECT of_task FROM weights) ? id::text
        ))
    RETURNING task.id, task.step, task.fence, task.change, task.state, task.updated_at, task.queue
),
noted AS (
    INSERT INTO transitions
        (tenant_id, at, task_id, step, fence, from_state, to_state, owner, detail)
    SELECT
        %(tenant)s, updated_at, id, step, fence, split_part(change, '>', 1), state, %(owner)s,
        jsonb_build_object('error', error)
    FROM ended
    UNION ALL
    SELECT %(tenant)s, updated_at, id, step, fence, split_part(change, '>', 1), state, NULL, NULL
    FROM fallen
    UNION ALL
    SELECT %(tenant)s, updated_at, id, step, fence, split_part(change, '>', 1), state, NULL, NULL
    FROM counted
    WHERE state = 'ready'
),
told AS MATERIALIZED (
    SELECT pg_notify(%(channel)s, concat_ws(' ', %(tenant)s, queue))
    FROM counted
    WHERE state = 'ready'
    GROUP BY queue
)
SELECT id, true, (SELECT count(*) FROM told) FROM ended
UNION ALL
SELECT id, false, 0 FROM fallen
