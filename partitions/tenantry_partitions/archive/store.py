"""Object storage: a folder (``file://``), or S3 (``s3://``, MinIO and AWS), by obstore.

Credentials come from where AWS's own tools take them (``AWS_…``, with ``AWS_ENDPOINT_URL`` for
others), never from the address. What is stored is believed only after it was read back.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotSupportedError
from obstore.store import from_url

from tenantry_partitions.archive.manifest import Manifest
from tenantry_schema.errors import ArchiveMismatch, InvalidConfig, RolloverFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from obstore.store import ObjectStore

_SCHEMES = frozenset({"file", "s3"})
_CHUNK = 8 * 1024 * 1024
_PIECE = 1024 * 1024
_AT_ONCE = 2
_LONGEST = timedelta(days=1)
_CLIENT = ("allow_http", "allow_invalid_certificates", "connect_timeout", "proxy_url")


class Upload:
    """A file that is written to the store in parts, and hashed on its way."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer
        self._hash = hashlib.sha256()
        self.size = 0
        self.closed = False

    def write(self, data: Any) -> int:
        """Write bytes."""
        block = bytes(data)
        self._hash.update(block)
        self.size += len(block)
        self._writer.write(block)
        return len(block)

    def flush(self) -> None:
        """Do nothing: parts are sent when they are full."""

    @property
    def sha256(self) -> str:
        """The digest of what was written."""
        return self._hash.hexdigest()


def _remote(patience: float) -> dict[str, Any]:
    """Return how long a server is waited for: a slow one for as long as it goes on sending."""
    silence = timedelta(seconds=patience)
    # Options replace those that obstore would have read from the environment.
    given = {name: os.environ.get(f"AWS_{name.upper()}") for name in _CLIENT}
    client = {name: value for name, value in given.items() if value is not None}
    return {
        # Of a whole request, as a large file takes it from a slow server; obstore's is 30 seconds.
        "client_options": {**client, "timeout": _LONGEST, "read_timeout": silence},
        "retry_config": {"retry_timeout": 3 * silence},
    }


@dataclass(frozen=True, slots=True)
class Download:
    """A file as the store gave it back.

    :ivar file: on this machine's disk, at its beginning
    """

    file: IO[bytes]
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Store:
    """A place for archives.

    :ivar address: as it was given
    """

    address: str
    _store: ObjectStore

    @classmethod
    def open(cls, address: str, *, patience: float = 60.0) -> Store:
        """Return the store of an address; nothing is asked of it yet.

        :param patience: seconds that it may be silent, or take for a part of 8 MB; three times
            that until it is given up
        :raises InvalidConfig: for an address that is none, or holds a password
        """
        parts = urlsplit(address)
        if parts.scheme not in _SCHEMES or parts.password or parts.username:
            raise InvalidConfig(
                "an archive's address is file:///folder or s3://bucket/prefix; credentials come "
                "from AWS_ACCESS_KEY_ID and the like, never from the address"
            )
        options = {"mkdir": True} if parts.scheme == "file" else _remote(patience)
        try:
            return cls(address, from_url(address, **options))
        except (BaseError, OSError) as error:
            raise InvalidConfig(f"archive {address!r:.80} cannot be opened: {error}") from error

    @contextmanager
    def upload(self, path: str) -> Iterator[Upload]:
        """Write a file; it is there when the block ends well, and not when it does not.

        :raises RolloverFailed: when the store refuses it
        """
        with self._told(path):
            writer = obstore.open_writer(
                self._store, path, buffer_size=_CHUNK, max_concurrency=_AT_ONCE
            )
            # Its own __exit__ would complete a file that an error has cut off.
            yield Upload(writer)
            writer.close()

    @contextmanager
    def download(self, path: str) -> Iterator[Download]:
        """Give a file back, whole: some S3 servers answer no requests for parts.

        :raises ArchiveMismatch: when it is not there
        """
        with tempfile.TemporaryFile() as file:
            size, sha256 = self._fetch(path, file)
            file.seek(0)
            yield Download(file, size, sha256)

    def digest(self, path: str) -> tuple[int, str]:
        """Return size and sha256 of a file, as the store gives it back.

        :raises ArchiveMismatch: when it is not there
        """
        return self._fetch(path, None)

    def _fetch(self, path: str, sink: IO[bytes] | None) -> tuple[int, str]:
        hashed, size = hashlib.sha256(), 0
        with self._told(path, reading=True):
            for chunk in obstore.get(self._store, path).stream(min_chunk_size=_PIECE):
                hashed.update(chunk)
                size += len(chunk)
                if sink is not None:
                    sink.write(chunk)
        return size, hashed.hexdigest()

    def manifest(self, path: str) -> Manifest | None:
        """Return a manifest, or None where there is none."""
        try:
            with self._told(path, reading=True):
                text = obstore.get(self._store, path).bytes().to_bytes()
        except ArchiveMismatch:
            return None
        return Manifest.read(text, path)

    def put_manifest(self, manifest: Manifest) -> None:
        """Store a manifest where there is none, and read it back.

        :raises ArchiveMismatch: when another one has come there meanwhile, or it does not come back
        """
        data = manifest.text().encode()
        with self._told(manifest.name):
            try:
                obstore.put(self._store, manifest.name, data, mode="create", use_multipart=False)
            except NotSupportedError:
                # The lock on the database keeps other writers of this partition away.
                obstore.put(self._store, manifest.name, data, use_multipart=False)
            except AlreadyExistsError:
                if self.manifest(manifest.name) != manifest:
                    raise ArchiveMismatch(
                        f"{manifest.name} describes another archive: two databases share "
                        f"{self.address}; give each a prefix of its own"
                    ) from None
        if self.manifest(manifest.name) != manifest:
            raise ArchiveMismatch(
                f"{manifest.name} did not come back from {self.address} as it was written: nothing "
                "is dropped"
            )

    def manifests(self, prefix: str = "") -> Iterator[Manifest]:
        """Yield every manifest, in the order of their paths."""
        with self._told(prefix):
            paths = [
                found["path"]
                for batch in obstore.list(self._store, prefix or None)
                for found in batch
                if found["path"].endswith(".json")
            ]
        for path in sorted(paths):
            found = self.manifest(path)
            if found is not None:
                yield found

    @contextmanager
    def _told(self, path: str, *, reading: bool = False) -> Iterator[None]:
        """Translate the store's errors.

        :param reading: what is missing was never written, or lied about
        """
        try:
            yield
        except FileNotFoundError as error:
            if reading:
                raise ArchiveMismatch(f"{path} is not in {self.address}") from error
            raise RolloverFailed(
                f"{path}: there is no {self.address} to write it to: nothing was dropped; make the "
                "bucket, or correct its name"
            ) from error
        except (BaseError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise RolloverFailed(
                f"{path}: the store {self.address} failed ({reason:.300}): nothing was dropped, "
                "the next run goes on"
            ) from error
