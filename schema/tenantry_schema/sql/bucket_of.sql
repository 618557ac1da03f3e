-- So that people can ask Postgres where a tenant lives. Routers ask the catalog.

CREATE OR REPLACE FUNCTION tenantry.position_of(key uuid) RETURNS bigint
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN pg_catalog.uuid_hash(key)::bigint + 2147483648;

CREATE OR REPLACE FUNCTION tenantry.position_of(key bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN pg_catalog.hashint8(key)::bigint + 2147483648;

CREATE OR REPLACE FUNCTION tenantry.position_of(key text) RETURNS bigint
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN pg_catalog.hashtext(key COLLATE "C")::bigint + 2147483648;

CREATE OR REPLACE FUNCTION tenantry.bucket_at(place bigint) RETURNS integer
LANGUAGE sql STABLE STRICT PARALLEL SAFE
RETURN coalesce(
    (SELECT pin.bucket FROM tenantry.pins AS pin WHERE pin.position = place),
    (SELECT owned.bucket FROM tenantry.ranges AS owned WHERE owned.positions @> place)
);

CREATE OR REPLACE FUNCTION tenantry.bucket_of(key uuid) RETURNS integer
LANGUAGE sql STABLE STRICT PARALLEL SAFE
RETURN tenantry.bucket_at(tenantry.position_of(key));

CREATE OR REPLACE FUNCTION tenantry.bucket_of(key bigint) RETURNS integer
LANGUAGE sql STABLE STRICT PARALLEL SAFE
RETURN tenantry.bucket_at(tenantry.position_of(key));

CREATE OR REPLACE FUNCTION tenantry.bucket_of(key text) RETURNS integer
LANGUAGE sql STABLE STRICT PARALLEL SAFE
RETURN tenantry.bucket_at(tenantry.position_of(key));

-- A shard answers from a copy, which it cannot compare with the catalog: what is said here is for
-- people who read `\df+`.
COMMENT ON FUNCTION tenantry.bucket_at(bigint) IS
$$Bucket of a position by this shard's copy of the catalog's ranges and pins. The copy is as old as the
last `tenantry map publish`: a tenant that was pinned since is answered with the bucket that it left.
`tenantry doctor` names shards whose copy is behind; the catalog alone is the truth.$$;
COMMENT ON FUNCTION tenantry.bucket_of(uuid) IS
'Bucket of a tenant, as of the last `tenantry map publish`: see tenantry.bucket_at';
COMMENT ON FUNCTION tenantry.bucket_of(bigint) IS
'Bucket of a tenant, as of the last `tenantry map publish`: see tenantry.bucket_at';
COMMENT ON FUNCTION tenantry.bucket_of(text) IS
'Bucket of a tenant, as of the last `tenantry map publish`: see tenantry.bucket_at';
