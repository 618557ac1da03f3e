SELECT
    actor.tenant_id, actor.id, actor.agent_id, actor.kind, actor.state, actor.version,
    actor.generation, actor.created_at, actor.updated_at, actor.activated_at,
    (
        SELECT coalesce(jsonb_agg(to_jsonb(task) ORDER BY task.run_after), '[]')
        FROM tasks AS task
        WHERE task.tenant_id = %(tenant)s AND task.owner_actor = actor.id
            AND task.state = 'running' AND task.lease_until > clock_timestamp()
    ),
    (
        SELECT coalesce(jsonb_agg(to_jsonb(task) ORDER BY task.created_at, task.id), '[]')
        FROM (
            SELECT task.id, task.kind, task.queue, task.state, task.attempt, task.fence,
                task.owner, task.unmet, task.run_after, task.created_at, task.progress
            FROM tasks AS task
            WHERE task.tenant_id = %(tenant)s AND task.actor_id = actor.id
                AND task.state IN ('waiting', 'ready', 'running')
            ORDER BY task.created_at, task.id
            LIMIT %(most)s
        ) AS task
    )
FROM actors AS actor
WHERE actor.tenant_id = %(tenant)s AND actor.id = %(actor)s
