SELECT due.tenant_id, NULL::text
FROM (
    WITH RECURSIVE planned AS (
        (
            SELECT tenant_id
            FROM {schedules}
            WHERE paused_at IS NULL
            ORDER BY tenant_id
            LIMIT 1
        )
        UNION ALL
        SELECT following.tenant_id
        FROM planned
        CROSS JOIN LATERAL (
            SELECT schedule.tenant_id
            FROM {schedules} AS schedule
            WHERE schedule.paused_at IS NULL AND schedule.tenant_id > planned.tenant_id
            ORDER BY schedule.tenant_id
            LIMIT 1
        ) AS following
    )
    SELECT planned.tenant_id
    FROM planned
    WHERE EXISTS (
        SELECT
        FROM {schedules} AS schedule
        WHERE schedule.tenant_id = planned.tenant_id AND schedule.paused_at IS NULL
            AND schedule.next_fire <= statement_timestamp()
    )
) AS due
