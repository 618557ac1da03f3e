WITH clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now
)
SELECT
    (SELECT now FROM clock),
    id, agent_id, name, cron, every, time_zone, misfire, grace, task_kind, queue, priority,
    payload, retry, next_fire
FROM schedules
WHERE tenant_id = %(tenant)s AND paused_at IS NULL
    AND next_fire <= (SELECT now FROM clock)
ORDER BY next_fire
LIMIT %(most)s
FOR UPDATE SKIP LOCKED
