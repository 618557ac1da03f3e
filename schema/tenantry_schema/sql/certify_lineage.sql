-- Called by whoever sees a primary on a new timeline first; the row replicates like any other.
--
-- Where the former timeline ended is what a standby had replayed when it was promoted, and Postgres
-- remembers it until the server is restarted. A server that was restarted remembers the end of its
-- crash recovery instead: so the caller says since when it has watched the server, and for another
-- start the end stays unknown (NULL), which confirms no token of an earlier timeline. A backend that
-- crashed makes the server recover without a new start time; then it has forgotten that it ever
-- received anything, and the end stays unknown as well.
CREATE OR REPLACE FUNCTION tenantry.certify_lineage(watched timestamptz) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    this_system text := (SELECT system_identifier::text FROM pg_control_system());
    this_timeline integer :=
        ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::integer;
BEGIN
    INSERT INTO tenantry.lineage (id, system_identifier, timeline, switch_lsn)
    SELECT coalesce(max(it.id), 0) + 1, this_system, this_timeline,
        CASE WHEN pg_postmaster_start_time() = watched AND pg_last_wal_receive_lsn() IS NOT NULL
            THEN pg_last_wal_replay_lsn() END
    FROM tenantry.lineage AS it
    HAVING NOT coalesce(
        bool_or(it.system_identifier = this_system AND it.timeline = this_timeline), false)
    ON CONFLICT DO NOTHING;
    RETURN this_timeline;
END
$$;

REVOKE ALL ON FUNCTION tenantry.certify_lineage(timestamptz) FROM PUBLIC;
