-- Where one server stands among its shard's: its role, its history, what it wrote or received, and
-- what it knows of others. Positions are bytes since the beginning of the WAL.
SELECT
    (SELECT system_identifier::text FROM pg_control_system()) AS system_identifier,
    pg_is_in_recovery() AS in_recovery,
    current_setting('default_transaction_read_only') = 'on' AS closed,
    current_setting('transaction_read_only') = 'on' AS read_only,
    -- pg_control_checkpoint() names the former timeline for seconds after a promotion.
    CASE WHEN pg_is_in_recovery() THEN
        greatest(
            (SELECT timeline_id FROM pg_control_checkpoint()),
            (SELECT min_recovery_end_timeline FROM pg_control_recovery()),
            receiver.received_tli
        )
    ELSE
        ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::integer
    END AS timeline,
    pg_postmaster_start_time() AS started,
    CASE WHEN NOT pg_is_in_recovery() THEN
        (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint
    END AS written,
    CASE WHEN pg_is_in_recovery() THEN
        (greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) - '0/0'::pg_lsn)::bigint
    END AS received,
    CASE WHEN pg_is_in_recovery() THEN
        (pg_last_wal_replay_lsn() - '0/0'::pg_lsn)::bigint
    END AS replayed,
    -- A receiver says "streaming" once it is connected, before it is served or refused.
    coalesce(receiver.status = 'streaming', false) AS connected,
    -- Until the first message both times are the receiver's start. An idle primary has no reason for
    -- one yet; but whoever is refused ends within moments.
    coalesce(
        receiver.status = 'streaming' AND (
            receiver.last_msg_send_time <> receiver.last_msg_receipt_time
            OR receiver.last_msg_receipt_time < clock_timestamp() - interval '1 second'
        ),
        false
    ) AS streaming,
    (
        SELECT coalesce(json_agg(json_build_object(
            'name', application_name, 'state', state, 'sync', sync_state
        ) ORDER BY application_name), '[]')
        FROM pg_stat_replication
    ) AS replicas,
    (
        SELECT coalesce(json_agg(json_build_object(
            'name', slot_name, 'logical', slot_type = 'logical', 'active', active,
            'kept_from', (restart_lsn - '0/0'::pg_lsn)::bigint
        ) ORDER BY slot_name), '[]')
        FROM pg_replication_slots
        WHERE NOT temporary
    ) AS slots,
    coalesce(
        (
            SELECT split_part(given, '=', 2)
            FROM pg_db_role_setting AS own
            JOIN pg_roles AS role ON role.oid = own.setrole
            CROSS JOIN unnest(own.setconfig) AS given
            WHERE role.rolname = 'tenantry_app' AND given LIKE 'synchronous_commit=%'
                AND own.setdatabase IN (
                    0, (SELECT oid FROM pg_database WHERE datname = current_database()))
            ORDER BY own.setdatabase DESC LIMIT 1
        ),
        current_setting('synchronous_commit')
    ) AS synchronous_commit,
    current_setting('synchronous_standby_names') AS synchronous_standby_names,
    current_setting('fsync') = 'on' AS fsync,
    pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS sees_others,
    to_regclass('tenantry.lineage') IS NOT NULL AS has_lineage
-- One row, or none on a primary and while nobody is connected to.
FROM (SELECT) AS here
LEFT JOIN pg_stat_wal_receiver AS receiver ON true
