-- So that people can ask Postgres where a tenant lives.

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
