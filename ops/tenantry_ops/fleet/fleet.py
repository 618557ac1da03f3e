"""Start, find and stop an embedded fleet (design, section 8).

A *tied* fleet ends with the process that started it, however that ends; an untied one outlives the
command and is found again by its folder. Everything is started from the calling thread, because the
kernel ties a child to the thread that made it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psycopg
from psycopg.conninfo import make_conninfo

from tenantry_ops.fleet import secrets
from tenantry_ops.fleet.build import PROFILES, copy_replicas, init_primaries, prepare_shard
from tenantry_ops.fleet.fetch import obtain_programs, refill_cache
from tenantry_ops.fleet.identity import Identity, reachable_programs, server_identity
from tenantry_ops.fleet.plan import check_numbers, plan_fleet
from tenantry_ops.fleet.process import (
    Server,
    clear,
    kill,
    signal_stop,
    start,
    wait_ready,
    wait_stopped,
)
from tenantry_ops.fleet.programs import Programs
from tenantry_ops.fleet.state import FleetState, ServerState, ShardState, alone
from tenantry_schema.errors import FleetError
from tenantry_schema.naming import APP, CATALOG_DATABASE, OPERATOR, SHARD_DATABASE

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterable

_SECRET_FOLDER_MODE = 0o711


@dataclass(frozen=True, slots=True)
class FleetShard:
    """The servers of one shard, as they were made; who is primary now is asked of Postgres."""

    name: str
    primary: Server
    replicas: tuple[Server, ...]

    @property
    def servers(self) -> tuple[Server, ...]:
        """All servers of the shard."""
        return (self.primary, *self.replicas)


class Fleet:
    """An embedded fleet in a folder."""

    def __init__(self, directory: Path, state: FleetState, *, tied: bool) -> None:
        self.directory = directory
        self.state = state
        self.tied = tied
        self.identity = server_identity()
        self.shards = tuple(self._shard(it) for it in state.shards)
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    @classmethod
    def up(  # noqa: PLR0913  each is one thing a user may want otherwise
        cls,
        directory: str | os.PathLike[str],
        *,
        shards: int = 2,
        replicas: int = 1,
        profile: str = "fast",
        pg_bin: str | os.PathLike[str] | None = None,
        tied: bool = True,
        progress: Callable[[str], None] = lambda _: None,
    ) -> Self:
        """Start a fleet in a folder, or what of it does not run.

        :param directory: made when it is missing; a fleet that is there is started as it is
        :param profile: ``fast`` (a crash of the machine may lose it) or ``durable``
        :raises FleetError: when there are no server programs, or a server does not start
        :raises InvalidConfig: for numbers or a profile that cannot be
        """
        check_numbers(shards, replicas, profile)
        place = Path(directory).resolve()
        place.mkdir(parents=True, exist_ok=True)
        with alone(place):
            found = FleetState.load(place)
            if found is not None and found.complete:
                fleet = cls(place, found, tied=tied)
                progress(f"found a fleet of Postgres {found.version} in {place}")
                refill_cache(Path(found.programs), progress)
            else:
                if found is not None:
                    progress("removing what was left half made")
                    half_made = cls(place, found, tied=tied)
                    half_made._remove()
                programs = obtain_programs(pg_bin, progress)
                progress(f"Postgres {programs.version} from {programs.source}")
                fleet = cls(
                    place, plan_fleet(place, programs, shards, replicas, profile), tied=tied
                )
            try:
                fleet._start(progress)
            except BaseException:
                # What ran before goes on running.
                fleet._stop([it for it in fleet.servers if it.name in fleet._children])
                raise
        return fleet

    @classmethod
    def load(cls, directory: str | os.PathLike[str]) -> Self:
        """Find the fleet of a folder without starting anything.

        :raises FleetError: when there is none
        """
        place = Path(directory).resolve()
        state = FleetState.load(place)
        if state is None:
            raise FleetError(f"there is no fleet in {place}: start one with `tenantry fleet up`")
        return cls(place, state, tied=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.down()

    @property
    def servers(self) -> tuple[Server, ...]:
        """All servers of all shards."""
        return tuple(server for shard in self.shards for server in shard.servers)

    @property
    def passfile(self) -> Path:
        """Libpq's password file with every role of the fleet."""
        return self.directory / secrets.FILE

    @property
    def replication_passfile(self) -> Path:
        """The password file of the servers themselves, with the replication role only."""
        return self.directory / "servers" / ".passfile"

    def conninfo(
        self, server: Server, *, user: str = OPERATOR, dbname: str = SHARD_DATABASE, **more: Any
    ) -> str:
        """Return how to connect to a server; the password is in the password file."""
        return make_conninfo(
            host=server.host,
            port=server.port,
            user=user,
            dbname=dbname,
            passfile=str(self.passfile),
            **more,
        )

    def superuser_conninfo(self, server: Server, dbname: str = "postgres") -> str:
        """Return how to connect as the embedded fleet's superuser."""
        return self.conninfo(server, user=secrets.SUPERUSER, dbname=dbname)

    def catalog_conninfo(self, user: str = APP) -> str:
        """Return how to connect to the catalog, which lies on the first shard."""
        first = self.shards[0]
        return make_conninfo(
            host=",".join(server.host for server in first.servers),
            port=",".join(str(server.port) for server in first.servers),
            user=user,
            dbname=CATALOG_DATABASE,
            passfile=str(self.passfile),
            target_session_attrs="read-write",
        )

    def status(self) -> list[dict[str, Any]]:
        """Ask every server who it is: name, shard, role, pid, port."""
        return [
            {"shard": shard.name, **self._status(server)}
            for shard in self.shards
            for server in shard.servers
        ]

    def down(self) -> list[str]:
        """Stop every server that runs, whoever started it; return their names."""
        with alone(self.directory):
            return self._stop(self.servers)

    def discard(self) -> list[str]:
        """Stop every server, and remove what the fleet keeps on disk; return who was stopped."""
        with alone(self.directory):
            return self._remove()

    def start_server(self, server: Server) -> None:
        """Start one server of the fleet, and wait until it answers."""
        self._launch([server])
        self._await([server])

    def stop_server(self, server: Server, patience_s: float = 30.0) -> None:
        """Stop one server of the fleet, and wait for its end: replicas get all that it wrote.

        :param patience_s: then it is ended at once; a replica that hangs would hold it up
        """
        handle = signal_stop(server)
        if handle is not None:
            wait_stopped(server, handle, patience_s)
        self._reap(server)
        clear(server)

    def kill_server(self, server: Server) -> None:
        """End one server of the fleet at once, whatever state it is in."""
        kill(server)
        self._reap(server)

    def _reap(self, server: Server) -> None:
        child = self._children.pop(server.name, None)
        if child is not None:
            child.wait()

    def _stop(self, servers: Iterable[Server]) -> list[str]:
        handles = [(server, signal_stop(server)) for server in servers]
        for server, handle in handles:
            if handle is not None:
                wait_stopped(server, handle)
            self._reap(server)
        return [server.name for server, handle in handles if handle is not None]

    def _remove(self) -> list[str]:
        stopped = self._stop(self.servers)
        shutil.rmtree(self.state.sockets, ignore_errors=True)
        for name in ("servers", "programs", "programs.new"):
            shutil.rmtree(self.directory / name, ignore_errors=True)
        for name in ("fleet.toml", secrets.FILE):
            (self.directory / name).unlink(missing_ok=True)
        return stopped

    def _shard(self, state: ShardState) -> FleetShard:
        return FleetShard(
            state.name, self._server(state.primary), tuple(map(self._server, state.replicas))
        )

    def _server(self, state: ServerState) -> Server:
        folder = self.directory / "servers" / state.name
        return Server(state.name, self.state.sockets, state.port, folder)

    def _start(self, progress: Callable[[str], None]) -> None:
        if not self.state.complete:
            self._build(progress)
            return
        self._find_sockets()
        progress("starting servers")
        self._launch(self.servers)
        self._await(self.servers)

    def _find_sockets(self) -> None:
        """Make the sockets' folder again where it was: replicas and the catalog have its name."""
        sockets, us = Path(self.state.sockets), os.getuid()
        if not sockets.exists():
            # Who swept the folder for temporary files has cut off what still runs.
            self._stop(self.servers)
            sockets.mkdir(mode=0o700, parents=True)
        owner = sockets.stat().st_uid
        if owner not in (us, self.identity.uid):
            raise FleetError(
                f"the folder of the servers' sockets, {sockets}, belongs to somebody else (user "
                f"{owner}): remove it, or the fleet with `tenantry fleet down --remove`"
            )
        self.identity.own(sockets)

    def _build(self, progress: Callable[[str], None]) -> None:
        self._make_folders()
        primaries = [shard.primary for shard in self.shards]
        passwords = secrets.make_passwords()
        secrets.write_passfile(self.passfile, passwords)
        pwfile = self.directory / "servers" / ".superuser"
        inner = self.replication_passfile
        secrets.write_passfile(inner, {secrets.REPLICATION: passwords[secrets.REPLICATION]})
        pwfile.write_text(passwords[secrets.SUPERUSER])
        for path in (inner, pwfile):
            path.chmod(0o600)
            self.identity.own(path)
        progress("making primaries")
        init_primaries(primaries, self.programs(), self.identity, pwfile)
        pwfile.unlink()
        self._launch(primaries)
        self._await(primaries)
        for shard in self.shards:
            first = shard is self.shards[0]
            prepare_shard(self.superuser_conninfo(shard.primary), passwords, catalog=first)
        pairs = [(shard.primary, it) for shard in self.shards for it in shard.replicas]
        if pairs:
            progress("copying replicas")
            copy_replicas(pairs, self.programs(), self.identity, inner)
            self._launch([replica for _, replica in pairs])
            self._await([replica for _, replica in pairs])
        self.state = replace(self.state, complete=True)
        self.state.save(self.directory)

    def _make_folders(self) -> None:
        if not self.identity.reaches(self.directory.parent):
            raise FleetError(
                f"the servers run as user {self.identity.name!r}, who cannot enter "
                f"{self.directory.parent}: name with --dir a folder whose parents everybody may "
                "enter, such as one under /var/tmp"
            )
        servers = self.directory / "servers"
        if self.identity.uid is not None:
            self.directory.chmod(_SECRET_FOLDER_MODE)
        servers.mkdir(mode=0o700, exist_ok=True)
        self.identity.own(servers)
        self.state = replace(self.state, sockets=_socket_folder(self.identity))
        self.shards = tuple(self._shard(it) for it in self.state.shards)
        self.state.save(self.directory)

    def programs(self) -> Programs:
        """Return the server programs, where the servers' user can run them."""
        found = Programs(Path(self.state.programs), self.state.version, self.state.source)
        if not found.folder.exists():
            raise FleetError(
                f"the server programs of this fleet are gone from {found.folder}: install Postgres "
                f"{found.version} there again, or remove the fleet with `tenantry fleet down "
                "--remove`"
            )
        return reachable_programs(found, self.identity, self.directory / "programs")

    def _launch(self, servers: Iterable[Server]) -> None:
        programs = self.programs()
        options = PROFILES[self.state.profile]
        for server in servers:
            if server.pid is None:
                # Another process may have stopped what this one had started.
                self._reap(server)
                clear(server)
                self._children[server.name] = start(
                    server, programs, self.identity, options, tied=self.tied
                )

    def _await(self, servers: Iterable[Server]) -> None:
        for server in servers:
            wait_ready(server, self.superuser_conninfo(server), self._children.get(server.name))

    def _status(self, server: Server) -> dict[str, Any]:
        role = "down"
        if server.pid is not None:
            try:
                with psycopg.connect(self.superuser_conninfo(server), connect_timeout=3) as conn:
                    row = conn.execute("SELECT pg_is_in_recovery()").fetchone()
                    role = "replica" if row is not None and row[0] else "primary"
            except psycopg.OperationalError:
                role = "not answering"
        return {"name": server.name, "role": role, "pid": server.pid, "port": server.port}


def _socket_folder(identity: Identity) -> str:
    # Paths of unix sockets end at 107 bytes, so never inside the fleet's own folder.
    folder = Path(tempfile.mkdtemp(prefix="tenantry-"))
    identity.own(folder)
    return str(folder)
