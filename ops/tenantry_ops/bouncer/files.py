"""Put files in place: all of them or none, readable by their owner only.

Every draft is written and synced before the first rename, so that a full disk or a folder that
cannot be written is met while nothing has changed. One process at a time works on a folder.
"""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tenantry_schema.errors import InvalidConfig, OperationInProgress

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

MODE = 0o600
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class Replaced:
    """What was in the place of files before; :meth:`restore` puts it back."""

    directory: Path
    before: dict[str, bytes | None]

    def restore(self) -> None:
        """Put back what was there."""
        put_files(
            self.directory, {it: text for it, text in self.before.items() if text is not None}
        )
        for name, text in self.before.items():
            if text is None:
                (self.directory / name).unlink(missing_ok=True)


def put_files(directory: Path, files: Mapping[str, bytes]) -> Replaced:
    """Put files in place, in the order in which they are given.

    They belong to whom the folder belongs to: PgBouncer must read them, and nobody else may.

    :raises InvalidConfig: when the folder cannot be written; nothing was changed then
    """
    before = {name: read_file(directory / name) for name in files}
    drafts: dict[str, Path] = {}
    try:
        for name, text in files.items():
            drafts[name] = _draft(directory, name, text)
    except OSError as error:
        _remove(drafts.values())
        raise InvalidConfig(
            f"{directory} cannot be written ({error.strerror or error}): nothing was changed; "
            "correct the folder or its rights"
        ) from error
    done: dict[str, bytes | None] = {}
    try:
        for name, draft in drafts.items():
            draft.replace(directory / name)
            done[name] = before[name]
        _sync(directory)
    except OSError:
        Replaced(directory, done).restore()
        raise
    finally:
        _remove(drafts.values())
    return Replaced(directory, before)


def read_file(path: Path) -> bytes | None:
    """Return what a file holds, or None when there is none.

    :raises InvalidConfig: when it cannot be read
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InvalidConfig(f"{path} cannot be read ({error.strerror})") from error


def open_to_others(path: Path) -> bool:
    """Say whether others than its owner may read or write a file."""
    return path.exists() and bool(path.stat().st_mode & _OTHERS)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Work on a folder while no other process does.

    :raises InvalidConfig: when there is no such folder
    :raises OperationInProgress: when another process does
    """
    try:
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise InvalidConfig(
            f"{directory} is no folder that can be opened ({error.strerror}): nothing was changed"
        ) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OperationInProgress(
                f"another process changes the files in {directory}: wait for it"
            ) from error
        yield
    finally:
        os.close(handle)


def _draft(directory: Path, name: str, text: bytes) -> Path:
    draft = directory / f".{name}.new"
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE)
    try:
        with os.fdopen(handle, "wb") as file:
            owner = directory.stat()
            if os.geteuid() == 0:
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    return draft


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(drafts: Iterable[Path]) -> None:
    for draft in drafts:
        draft.unlink(missing_ok=True)
