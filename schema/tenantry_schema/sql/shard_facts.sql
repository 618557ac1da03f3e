-- What a shard knows of itself and of the hash space.

CREATE TABLE IF NOT EXISTS tenantry.shard (
    singleton boolean NOT NULL DEFAULT true,
    fleet_id uuid NOT NULL,
    shard_id integer NOT NULL,
    name text NOT NULL,
    CONSTRAINT shard_pkey PRIMARY KEY (singleton),
    CONSTRAINT shard_singleton_check CHECK (singleton)
);

CREATE TABLE IF NOT EXISTS tenantry.ranges (
    bucket integer NOT NULL,
    positions int8range NOT NULL,
    CONSTRAINT ranges_pkey PRIMARY KEY (bucket),
    CONSTRAINT ranges_positions_excl EXCLUDE USING gist (positions WITH &&)
);

CREATE TABLE IF NOT EXISTS tenantry.pins (
    tenant_key text NOT NULL,
    position bigint NOT NULL,
    bucket integer NOT NULL,
    CONSTRAINT pins_pkey PRIMARY KEY (tenant_key),
    CONSTRAINT pins_position_key UNIQUE (position),
    CONSTRAINT pins_position_check CHECK (position >= 0 AND position < 4294967296)
);

-- Where a line of history began: a token of an earlier one is worth nothing past its switch. An
-- unknown switch (NULL) confirms no token of an earlier line at all.
CREATE TABLE IF NOT EXISTS tenantry.lineage (
    id integer NOT NULL,
    system_identifier text NOT NULL,
    timeline integer NOT NULL,
    switch_lsn pg_lsn,
    at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT lineage_pkey PRIMARY KEY (id),
    CONSTRAINT lineage_timeline_key UNIQUE (system_identifier, timeline)
);
