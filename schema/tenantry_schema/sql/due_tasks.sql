SELECT due.tenant_id, due.queue
FROM (
    WITH RECURSIVE ready AS (
        (
            SELECT tenant_id, queue
            FROM {tasks}
            WHERE state = 'ready'
            ORDER BY tenant_id, queue
            LIMIT 1
        )
        UNION ALL
        SELECT following.tenant_id, following.queue
        FROM ready
        CROSS JOIN LATERAL (
            SELECT task.tenant_id, task.queue
            FROM {tasks} AS task
            WHERE task.state = 'ready'
                AND (task.tenant_id, task.queue) > (ready.tenant_id, ready.queue)
            ORDER BY task.tenant_id, task.queue
            LIMIT 1
        ) AS following
    ),
    running AS (
        (
            SELECT tenant_id, queue
            FROM {tasks}
            WHERE state = 'running'
            ORDER BY tenant_id, queue
            LIMIT 1
        )
        UNION ALL
        SELECT following.tenant_id, following.queue
        FROM running
        CROSS JOIN LATERAL (
            SELECT task.tenant_id, task.queue
            FROM {tasks} AS task
            WHERE task.state = 'running'
                AND (task.tenant_id, task.queue) > (running.tenant_id, running.queue)
            ORDER BY task.tenant_id, task.queue
            LIMIT 1
        ) AS following
    )
    SELECT ready.tenant_id, ready.queue
    FROM ready
    WHERE EXISTS (
        SELECT
        FROM generate_series(9, 0, -1) AS level (priority)
        CROSS JOIN LATERAL (
            SELECT
            FROM {tasks} AS task
            WHERE task.tenant_id = ready.tenant_id AND task.queue = ready.queue
                AND task.state = 'ready' AND task.priority = level.priority
                AND task.run_after <= statement_timestamp()
            -- Without an order Postgres may look for one of many through the whole table, and finds
            -- none of a priority that nobody used.
            ORDER BY task.run_after
            LIMIT 1
        ) AS found
    )
    UNION
    SELECT running.tenant_id, running.queue
    FROM running
    WHERE EXISTS (
        SELECT
        FROM {tasks} AS task
        WHERE task.tenant_id = running.tenant_id AND task.queue = running.queue
            AND task.state = 'running' AND task.lease_until < statement_timestamp()
    )
) AS due
WHERE due.queue = ANY (%(queues)s)
