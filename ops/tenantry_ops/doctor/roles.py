"""Whether the roles of a shard can do what they must, and nothing beyond: pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenantry_ops.doctor.finding import Finding
from tenantry_schema.naming import APP, OPERATOR, OWNER, READ, WORKER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tenantry_ops.doctor.facts import RoleFacts, ShardFacts


def roles(shard: ShardFacts) -> Iterator[Finding]:
    """Yield what is wrong with the roles of a shard."""
    found = {role.name: role for role in shard.roles}
    for name in (OWNER, APP, READ, OPERATOR, WORKER):
        if name not in found:
            yield Finding(
                f"role {name} on {shard.name}",
                "does not exist",
                "make it as docs/howto/existing-postgres.md says, or take the shard out of the "
                "catalog",
            )
            continue
        for problem, mend in _wrong(found[name]):
            yield Finding(f"role {name} on {shard.name}", problem, mend.format(role=name))


def _wrong(role: RoleFacts) -> Iterator[tuple[str, str]]:
    serves = role.name in {APP, READ, WORKER}
    if role.superuser or (role.bypassrls and role.name != OPERATOR):
        yield (
            "can step around row-level security",
            "ALTER ROLE {role} NOSUPERUSER NOBYPASSRLS",
        )
    if role.special:
        yield (
            "may make roles or databases, or replicate",
            "ALTER ROLE {role} NOCREATEROLE NOCREATEDB NOREPLICATION",
        )
    if serves and role.owner:
        yield "may act as the owner of every table", f"REVOKE {OWNER} FROM {{role}}"
    if role.name == OPERATOR and not (role.bypassrls and role.owner):
        yield (
            "cannot operate the fleet: it must bypass row-level security and act as the owner",
            f"ALTER ROLE {{role}} BYPASSRLS; GRANT {OWNER} TO {{role}}",
        )
    if role.login != (role.name not in {OWNER, WORKER}):
        what = "can" if role.login else "cannot"
        yield f"{what} log in", f"ALTER ROLE {{role}} {'NOLOGIN' if role.login else 'LOGIN'}"
