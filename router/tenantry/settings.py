"""Settings of a router: arguments before environment before defaults."""

from __future__ import annotations

from typing import Any

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from tenantry.errors import InvalidConfig


class RouterSettings(BaseSettings):
    """What a router can be told; each field is also read from ``TENANTRY_<NAME>``."""

    model_config = SettingsConfigDict(
        env_prefix="TENANTRY_", frozen=True, extra="forbid", hide_input_in_errors=True
    )

    catalog: str = Field(min_length=1, repr=False)
    """libpq conninfo of the catalog; user, passfile and TLS settings are used for the nodes too."""

    application: str = Field(default="tenantry", min_length=1, max_length=63)
    """Shown to operators as ``application_name`` and in the list of routers."""

    deadline: float = Field(default=30.0, gt=0, le=86_400)
    """Seconds within which a call ends, whatever happens to the network.

    So do opening, reloading and looking into the directory, and each look at the catalog.
    """

    acquire_timeout: float = Field(default=5.0, gt=0, le=3_600)
    """Seconds to wait for a free connection of a node."""

    pool_size: int = Field(default=10, ge=1, le=10_000)
    """The most connections to one node."""

    poll_interval: float = Field(default=2.0, gt=0, le=3_600)
    """Seconds between looks at the catalog's map version when no notification comes."""

    heartbeat_interval: float = Field(default=10.0, gt=0, le=3_600)
    """Seconds between this router's entries in the catalog's list of routers."""

    sample_interval: float = Field(default=0.25, ge=0.01, le=60)
    """Seconds between questions to every node of the shards in use: where it stands."""

    zone: str | None = Field(default=None, min_length=1, max_length=63)
    """Where this process runs; replicas of the same zone answer first."""

    attempts: int = Field(default=5, ge=1, le=100)
    """How often ``run`` tries a work whose transaction was certainly rolled back."""

    pooler: str | None = Field(default=None, min_length=1, repr=False)
    """Where a PgBouncer is that all routed work goes through (``host=… port=…``).

    Its databases have the names of shards and nodes, as ``tenantry bouncer render`` writes them.
    """

    prepare_threshold: int = Field(default=5, ge=0)
    """Executions after which a statement is prepared; none is where a pooler would not keep it."""

    prepared_max: int = Field(default=500, ge=1, le=100_000)
    """The most prepared statements of one connection; each bucket has its own."""


def settings_from(catalog: str | None, options: dict[str, Any]) -> RouterSettings:
    """Build the settings from arguments; what is not given comes from the environment.

    :raises InvalidConfig: naming the setting and the reason
    """
    given = {name: value for name, value in options.items() if value is not None}
    if catalog is not None:
        given["catalog"] = catalog
    try:
        return RouterSettings(**given)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"]) or "settings"
        hint = (
            ": pass the catalog's conninfo or set TENANTRY_CATALOG"
            if first["type"] == "missing"
            else f" (argument {name}= or TENANTRY_{name.upper()})"
        )
        raise InvalidConfig(f"router setting {name!r}: {first['msg']}{hint}") from None
