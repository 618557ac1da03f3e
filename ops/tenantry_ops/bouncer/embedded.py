"""A PgBouncer in front of an embedded fleet: a real one, where it is installed, as a child.

It runs as the servers do, because PgBouncer refuses to run as root, too. Its files are in the
folder ``bouncer`` of the fleet, its socket lies beside the servers'.
"""

from __future__ import annotations

import os
import resource
import select
import shutil
import signal
import socket
import time
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tomli_w

from tenantry.conninfo import parse
from tenantry_ops.bouncer.apply import plan_for, write
from tenantry_ops.bouncer.auth import install_auth
from tenantry_ops.bouncer.merge import Edited
from tenantry_ops.bouncer.pooler import Pooler
from tenantry_ops.bouncer.render import AUTH_ROLE, INI
from tenantry_ops.bouncer.settings import FILE, read_settings
from tenantry_ops.bouncer.source import (
    Source,
    catalog_source,
    find_program,
    installed_version,
    want,
)
from tenantry_ops.bouncer.versions import Version
from tenantry_ops.fleet.process import running_pid, spawn, tail
from tenantry_ops.fleet.secrets import SUPERUSER
from tenantry_ops.initialise import embedded_plan
from tenantry_schema.errors import BouncerError, CatalogUnavailable
from tenantry_schema.naming import OPERATOR

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping
    from pathlib import Path

    from tenantry_ops.bouncer.sizing import Sizes
    from tenantry_ops.fleet import Fleet

PIDFILE = "pgbouncer.pid"

_START_S = 30.0
_FIRST_S = 0.3
_STOP_S = 30.0
_LOOK_S = 0.02
#: From here on SIGTERM waits for the clients, and SIGQUIT does not; before, there is no SIGQUIT.
_TERM_WAITS = Version(1, 23)


@dataclass(frozen=True, slots=True)
class Embedded:
    """The PgBouncer of an embedded fleet.

    :ivar directory: the folder of its files
    """

    fleet: Fleet
    directory: Path

    @classmethod
    def of(cls, fleet: Fleet) -> Embedded:
        """Return the PgBouncer of a fleet, whether it runs or not."""
        return cls(fleet, fleet.directory / "bouncer")

    @property
    def pooler(self) -> Pooler:
        """Its console and its files."""
        return Pooler.at(self.directory)

    @property
    def pid(self) -> int | None:
        """Its process id, or None when it does not run."""
        return running_pid(self.directory / PIDFILE, str(self.directory / INI))

    @property
    def log(self) -> Path:
        """The file that its output goes to."""
        return self.directory / "pgbouncer.log"

    def up(
        self,
        *,
        program: str | os.PathLike[str] | None = None,
        tied: bool = True,
        settings: Mapping[str, Any] | None = None,
    ) -> subprocess.Popen[bytes] | None:
        """Write its files and start it, unless it runs; return the process that was started.

        What was changed by hand in them is kept.

        :param tied: end it when the calling thread ends, however that ends
        :param settings: more settings than where it listens
        :raises BouncerError: when it does not start
        :raises InvalidConfig: when there is no program
        """
        if self.pid is not None:
            return None
        path = find_program(program)
        version = installed_version(path)
        self._make_folder(settings or {})
        sizes = self._write(version)
        end = "QUIT" if version >= _TERM_WAITS else "TERM"
        command = [*_limited(sizes.fds), path, str(self.directory / INI)]
        child = spawn(command, self.log, self.fleet.identity, tied=tied, end=end)
        try:
            self._await(child)
        except BaseException:
            child.kill()
            child.wait()
            raise
        return child

    def down(self) -> None:
        """Stop it, if it runs, whoever started it; its clients lose their connections.

        :raises BouncerError: when it does not stop
        """
        pid = self.pid
        if pid is None:
            return
        handle = os.pidfd_open(pid)
        try:
            # From 1.23 on the first one waits for the clients, and the second one does not.
            for patience in (_FIRST_S, _STOP_S):
                signal.pidfd_send_signal(handle, signal.SIGTERM)
                if select.select([handle], [], [], patience)[0]:
                    return
        finally:
            os.close(handle)
        raise BouncerError(f"PgBouncer (pid {pid}) does not stop")

    def discard(self) -> None:
        """Stop it, and remove its files."""
        self.down()
        shutil.rmtree(self.directory, ignore_errors=True)

    def status(self) -> dict[str, Any]:
        """Return a row like those of the fleet's servers."""
        head = {"shard": "", "name": "bouncer", "role": self._role()}
        return {**head, "pid": self.pid, "port": self.pooler.port}

    def _role(self) -> str:
        if self.pid is None:
            return "down"
        try:
            with self.pooler.open() as console:
                return f"PgBouncer {console.version}"
        except BouncerError:
            return "not answering"

    def _make_folder(self, settings: Mapping[str, Any]) -> None:
        self.directory.mkdir(mode=0o700, exist_ok=True)
        self.fleet.identity.own(self.directory)
        file = self.directory / FILE
        chosen: dict[str, Any] = {
            "listen_port": _free_port(),
            "logfile": "",
            "pidfile": str(self.directory / PIDFILE),
            **settings,
        }
        if file.exists():
            chosen = tomllib.loads(file.read_text())
        # The servers' sockets may lie elsewhere than when it was made.
        chosen["unix_socket_dir"] = self.fleet.state.sockets
        file.write_bytes(tomli_w.dumps(chosen).encode())

    def _write(self, version: Version) -> Sizes:
        source = self._source()
        settings = read_settings(self.directory, {})
        rendering, passfile = want(source, settings, version=version, directory=self.directory)
        plan = plan_for(self.directory, rendering, Edited.KEEP, passfile)
        write(self.directory, plan)
        if source.superuser is not None:
            install_auth(source.shards, source.superuser, rendering.userlist[AUTH_ROLE])
        return rendering.sizes

    def _source(self) -> Source:
        catalog = self.fleet.catalog_conninfo(OPERATOR)
        try:
            return catalog_source(catalog, SUPERUSER)
        except CatalogUnavailable:
            # It was not initialised yet: it will have these shards.
            plan = embedded_plan(self.fleet, buckets=1)
            given = parse(catalog)
            return Source(plan.shards, given, None, {**given, "user": SUPERUSER})

    def _await(self, child: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + _START_S
        while True:
            try:
                self.pooler.open().conn.close()
            except BouncerError as error:
                if child.poll() is not None or time.monotonic() > until:
                    raise BouncerError(
                        f"PgBouncer did not start ({error}); the end of {self.log}:\n"
                        f"{tail(self.log)}"
                    ) from error
                time.sleep(_LOOK_S)
            else:
                return


def _limited(fds: int) -> list[str]:
    """Return what lets a program have as many file descriptors as it may need."""
    prlimit = shutil.which("prlimit")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = fds if hard == resource.RLIM_INFINITY else min(fds, hard)
    return [] if prlimit is None or soft >= most else [prlimit, f"--nofile={most}:"]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as held:
        return int(held.getsockname()[1])
