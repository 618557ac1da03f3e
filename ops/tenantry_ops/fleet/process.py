"""One Postgres server as a process: start, wait until it answers, stop, find what is left of it."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from tenantry_schema.errors import FleetError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tenantry_ops.fleet.identity import Identity
    from tenantry_ops.fleet.programs import Programs

_START_S = 60.0
_STOP_S = 30.0
_LOOK_S = 0.02


@dataclass(frozen=True, slots=True)
class Server:
    """A server of the fleet.

    :ivar host: the folder of its unix socket
    """

    name: str
    host: str
    port: int
    data_dir: Path

    @property
    def log(self) -> Path:
        """The file that its output goes to."""
        return self.data_dir.with_suffix(".log")

    @property
    def pid(self) -> int | None:
        """The postmaster's process id, or None when it does not run."""
        return running_pid(self.data_dir / "postmaster.pid", str(self.data_dir))


def clear(server: Server) -> None:
    """End what a server that does not run left behind, and remove its lock files.

    A killed postmaster leaves sessions that hold its shared memory. Postgres takes a process that
    ended and that nobody reaped for a running server; the first process of a container often reaps
    late or never.
    """
    if server.pid is not None:
        return
    _end(_working_in(server.data_dir))
    lock = Path(server.host) / f".s.PGSQL.{server.port}.lock"
    for path in (server.data_dir / "postmaster.pid", lock):
        path.unlink(missing_ok=True)


def _working_in(folder: Path) -> list[int]:
    """Return the processes whose working folder it is: all of a server's have its data folder."""
    place = str(folder.resolve())
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        # Others' processes cannot be looked at, and any may end meanwhile.
        with suppress(OSError):
            if str((entry / "cwd").readlink()) == place:
                found.append(int(entry.name))
    return found


def _end(pids: Iterable[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            handle = os.pidfd_open(pid)
            try:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                select.select([handle], [], [], _STOP_S)
            finally:
                os.close(handle)


def running_pid(pidfile: Path, mark: str) -> int | None:
    """Return the process that a pid file names, or None when it does not run.

    :param mark: what its command line holds
    """
    try:
        pid = int(pidfile.read_text().splitlines()[0])
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError, IndexError):
        return None
    # A number that was given to somebody else meanwhile is not ours to signal.
    return pid if mark.encode() in command else None


def start(
    server: Server, programs: Programs, identity: Identity, options: dict[str, str], *, tied: bool
) -> subprocess.Popen[bytes]:
    """Start a server.

    :param tied: end it when the calling thread ends, however that ends
    """
    command = [programs.path("postgres"), "-D", str(server.data_dir)]
    settings = {
        "port": str(server.port),
        "unix_socket_directories": server.host,
        "listen_addresses": "127.0.0.1",
        "cluster_name": server.name,
        **options,
    }
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    return spawn(command, server.log, identity, tied=tied)


def spawn(
    command: list[str], log: Path, identity: Identity, *, tied: bool, end: str = "INT"
) -> subprocess.Popen[bytes]:
    """Start a server's program as its user, with its output in a log.

    :param tied: end it when the calling thread ends, however that ends
    :param end: the signal that ends it then
    """
    if tied:
        command = tied_to_us(command, end)
    with log.open("ab") as output:
        identity.own(log)
        return subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            start_new_session=True,
            **identity.popen(),
        )


def tied_to_us(command: list[str], end: str) -> list[str]:
    """Return a command that gets a signal when the calling thread ends; itself without setpriv."""
    setpriv = shutil.which("setpriv")
    return command if setpriv is None else [setpriv, "--pdeathsig", end, "--", *command]


def wait_ready(server: Server, conninfo: str, child: subprocess.Popen[bytes] | None) -> None:
    """Wait until a server answers.

    :raises FleetError: with the end of its log when it ended or stayed silent
    """
    until = time.monotonic() + _START_S
    while True:
        try:
            psycopg.connect(conninfo, connect_timeout=5).close()
        except psycopg.OperationalError as error:
            ended = child is not None and child.poll() is not None
            if ended or time.monotonic() > until:
                raise FleetError(
                    f"server {server.name} did not start ({error}); the end of {server.log}:\n"
                    f"{tail(server.log)}"
                ) from error
            time.sleep(_LOOK_S)
        else:
            return


def signal_stop(server: Server) -> int | None:
    """Ask a server to stop fast; return a handle to wait for its end, or None when it is down."""
    pid = server.pid
    if pid is None:
        return None
    try:
        handle = os.pidfd_open(pid)
        os.kill(pid, signal.SIGINT)
    except ProcessLookupError:
        return None
    return handle


def wait_stopped(server: Server, handle: int, patience_s: float = _STOP_S) -> None:
    """Wait for the end of a server that was asked to stop; end it at once when it does not."""
    try:
        ended, _, _ = select.select([handle], [], [], patience_s)
        if not ended:
            signal.pidfd_send_signal(handle, signal.SIGQUIT)
            ended, _, _ = select.select([handle], [], [], _STOP_S)
        if not ended:
            raise FleetError(f"server {server.name} (pid {server.pid}) does not stop")
    finally:
        os.close(handle)


def kill(server: Server) -> None:
    """End a server and all its processes at once, also when they are frozen."""
    pid = server.pid
    if pid is not None:
        # A postmaster that is gone forks nobody while what it left is ended.
        _end([pid])
    clear(server)


def tail(log: Path, lines: int = 12) -> str:
    """Return the last lines of a log."""
    if not log.exists():
        return "(no log)"
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
