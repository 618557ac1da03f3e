-- What PgBouncer asks at each login. Its body is parsed once, when it is made, so that no search_path
-- and no other object of the same name changes what it reads.
CREATE FUNCTION tenantry_bouncer.login(asked text, OUT name text, OUT secret text)
RETURNS SETOF record
LANGUAGE sql STABLE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT role.rolname::pg_catalog.text, role.rolpassword
    FROM pg_catalog.pg_authid AS role
    WHERE role.rolname = asked
        AND role.rolcanlogin
        AND NOT role.rolsuper
        AND NOT role.rolreplication
        AND (role.rolvaliduntil IS NULL OR role.rolvaliduntil > pg_catalog.now());
END
