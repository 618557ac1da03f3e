"""What a person decides about a PgBouncer; everything else comes from the catalog and the servers.

Given as options, else as ``TENANTRY_BOUNCER_<NAME>``, else in ``tenantry.toml`` beside the
``pgbouncer.ini``, else the default.
"""

from __future__ import annotations

import ipaddress
import tomllib
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from tenantry_schema.errors import InvalidConfig
from tenantry_schema.naming import APP, READ

if TYPE_CHECKING:
    from pathlib import Path

FILE = "tenantry.toml"
_PREFIX = "TENANTRY_BOUNCER_"


class BouncerSettings(BaseSettings):
    """The settings of one PgBouncer."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True
    )

    version: str | None = None
    """The version to render for; None asks the one that runs, else the one that is installed."""

    listen_addr: str = "127.0.0.1"
    """Addresses to listen on, divided by commas; beyond this machine only with TLS."""

    listen_port: int = Field(default=6432, ge=1, le=65_535)
    unix_socket_dir: str = "/var/run/postgresql"
    logfile: str = "/var/log/postgresql/pgbouncer.log"
    pidfile: str = "/var/run/postgresql/pgbouncer.pid"

    poolers: int = Field(default=1, ge=1, le=1_000)
    """How many PgBouncers share the servers."""

    routers: int | None = Field(default=None, ge=1, le=100_000)
    """How many routers connect; None counts those that the catalog has seen in the last minute."""

    router_pool_size: int = Field(default=10, ge=1, le=10_000)
    """The routers' setting ``pool_size``."""

    kept_direct: int = Field(default=20, ge=0, le=100_000)
    """Connections of every server that stay free for what must not go through a pool."""

    cores: int | None = Field(default=None, ge=1, le=10_000)
    """Cores of each server; None does not bound the pools by them."""

    per_core: int = Field(default=8, ge=1, le=1_000)
    """Connections that a core is given, in transactions that also wait for their clients."""

    auth: Literal["query", "userlist"] = "query"
    """Ask the server for a user's verifier at each login, or keep verifiers in ``userlist.txt``."""

    users: tuple[str, ...] = Field(default=(APP, READ), min_length=1)
    """Roles that may come through the pool."""

    clients: tuple[str, ...] = ("127.0.0.1/32", "::1/128")
    """Networks that routers come from."""

    client_tls_cert: str | None = None
    client_tls_key: str | None = None
    client_tls_ca: str | None = None
    """Given, clients must show a certificate that it signed."""

    server_tls_ca: str | None = None
    """Given, servers must show a certificate that it signed, for their own name."""

    query_wait_timeout: int = Field(default=120, ge=1, le=86_400)
    """Seconds that a client waits for a server; longer than any switchover."""

    extra: dict[str, str] = {}
    """More keys of ``[pgbouncer]``, checked as all are."""

    @field_validator("clients")
    @classmethod
    def _networks(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(ipaddress.ip_network(it)) for it in given)

    @field_validator("extra", mode="before")
    @classmethod
    def _texts(cls, given: object) -> object:
        return {it: str(value) for it, value in given.items()} if isinstance(given, dict) else given

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  pydantic's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the file behind the environment."""
        toml = TomlConfigSettingsSource(settings_cls, cls.model_config.get("toml_file"))
        return init_settings, env_settings, toml


def read_settings(directory: Path | None, given: dict[str, Any]) -> BouncerSettings:
    """Read the settings of the PgBouncer whose files are in a folder.

    :param given: what was said on the command line
    :raises InvalidConfig: naming the setting and the reason
    """
    file = None if directory is None else directory / FILE

    class _Settings(BouncerSettings):
        model_config = SettingsConfigDict(toml_file=file)

    try:
        found = _Settings(**given)
    except tomllib.TOMLDecodeError as error:
        raise InvalidConfig(f"{file} is no TOML: {error}") from error
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"]) or "settings"
        raise InvalidConfig(
            f"bouncer setting {name!r}: {first['msg']} (--set {name}=…, {_PREFIX}{name.upper()}, "
            f"or {FILE})"
        ) from None
    if (found.client_tls_cert is None) != (found.client_tls_key is None):
        raise InvalidConfig("client_tls_cert and client_tls_key belong together: give both or none")
    return found


def parse_settings(given: list[str]) -> dict[str, Any]:
    """Read ``NAME=VALUE`` of the command line; lists, tables and quoted texts are TOML.

    Numbers stay text until the setting is known: version 1.20 is not 1.2.

    :raises InvalidConfig: for what is no ``NAME=VALUE``
    """
    found: dict[str, Any] = {}
    for pair in given:
        name, separator, value = pair.partition("=")
        if not separator or not name.isidentifier():
            raise InvalidConfig(f"--set takes NAME=VALUE, not {pair!r:.80}")
        found[name] = value
        if value.startswith(("[", "{", '"', "'")):
            try:
                found[name] = tomllib.loads(f"value = {value}")["value"]
            except tomllib.TOMLDecodeError as error:
                raise InvalidConfig(f"--set {name}: the value is no TOML: {error}") from error
    return found
