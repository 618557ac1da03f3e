"""Object storage: a folder, S3 by `rclone serve s3`, and S3 by moto's server."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ACCESS, SECRET = "tenantry-test", "not-a-real-secret"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": ACCESS,
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_REGION": "us-east-1",
    "AWS_ALLOW_HTTP": "true",
}


def _free_port():
    with socket.create_server(("127.0.0.1", 0)) as held:
        return held.getsockname()[1]


@contextlib.contextmanager
def _serving(command, port):
    """Run a server until the block ends; it answers from its beginning on."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        try:
            deadline = time.monotonic() + 60
            while not _answers(port):
                assert child.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            child.terminate()


def _answers(port):
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).close()
    except urllib.error.HTTPError as error:
        error.close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="session")
def rclone(tmp_path_factory):
    """Real bytes and real signatures, over a folder."""
    folder = tmp_path_factory.mktemp("rclone")
    (folder / "archive").mkdir()
    port = _free_port()
    program = Path(sys.executable).with_name("rclone")
    command = [str(program), "serve", "s3", "--auth-key", f"{ACCESS},{SECRET}"]
    with _serving([*command, "--addr", f"127.0.0.1:{port}", str(folder)], port) as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def moto():
    """Conditional puts."""
    import boto3

    port = _free_port()
    program = Path(sys.executable).with_name("moto_server")
    with _serving([str(program), "-H", "127.0.0.1", "-p", str(port)], port) as endpoint:
        client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id=ACCESS,
            aws_secret_access_key=SECRET,
        )
        client.create_bucket(Bucket="archive")
        client.close()
        yield endpoint


@pytest.fixture
def address(request, tmp_path, monkeypatch):
    """An address of each kind of store, empty."""
    if request.param == "file":
        return f"file://{tmp_path}/archive"
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue(request.param))
    return f"s3://archive/{os.urandom(4).hex()}"
