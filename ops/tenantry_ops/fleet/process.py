"""One Postgres server as a process: start, wait until it answers, stop, find what is left of it."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from tenantry_schema.errors import FleetError

if TYPE_CHECKING:
    from tenantry_ops.fleet.identity import Identity
    from tenantry_ops.fleet.programs import Programs

_START_S = 60.0
_STOP_S = 30.0
_LOOK_S = 0.02
_HELD = "pre-existing shared memory block"


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
    setpriv = shutil.which("setpriv")
    if tied and setpriv is not None:
        command = [setpriv, "--pdeathsig", end, "--", *command]
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


def wait_ready(server: Server, conninfo: str, child: subprocess.Popen[bytes] | None) -> bool:
    """Wait until a server answers; return False when it must be started again.

    A server whose postmaster was killed leaves sessions behind that end by themselves, but hold its
    shared memory until then.

    :raises FleetError: with the end of its log when it ended or stayed silent
    """
    until = time.monotonic() + _START_S
    while True:
        try:
            psycopg.connect(conninfo, connect_timeout=5).close()
        except psycopg.OperationalError as error:
            ended = child is not None and child.poll() is not None
            if ended and _HELD in tail(server.log, 3):
                time.sleep(_LOOK_S)
                return False
            if ended or time.monotonic() > until:
                raise FleetError(
                    f"server {server.name} did not start ({error}); the end of {server.log}:\n"
                    f"{tail(server.log)}"
                ) from error
            time.sleep(_LOOK_S)
        else:
            return True


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
    if pid is None:
        return
    # A stopped postmaster forks nobody while its children are counted.
    os.kill(pid, signal.SIGSTOP)
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    handles = [os.pidfd_open(it) for it in (pid, *map(int, children))]
    for handle in handles:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    for handle in handles:
        select.select([handle], [], [], _STOP_S)
        os.close(handle)


def tail(log: Path, lines: int = 12) -> str:
    """Return the last lines of a log."""
    if not log.exists():
        return "(no log)"
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
