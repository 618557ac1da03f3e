"""The Docker fleet as Compose itself reads it, with words for secrets that occur nowhere else."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest

from tenantry_ops.cli.init import _shard

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docker-compose.yml"
EXAMPLE = ROOT / ".env.example"
NAMES = re.findall(r"^(\w+)=(.*)$", EXAMPLE.read_text(), re.MULTILINE)


@dataclass(frozen=True)
class Project:
    config: dict
    values: dict

    @property
    def services(self):
        return self.config["services"]

    @property
    def secrets(self):
        """What is secret in .env: whatever the example leaves empty."""
        return {name: self.values[name] for name, given in NAMES if not given}

    @property
    def servers(self):
        images = {name: it.get("image", "") for name, it in self.services.items()}
        return {
            name: self.services[name] for name in images if images[name].startswith("postgres:")
        }

    def settings(self, name):
        """What a server's command sets."""
        _, *given = self.services[name]["command"]
        return dict(it.removeprefix("--").split("=", 1) for it in given)

    @property
    def command(self):
        """The shell's text that makes the fleet."""
        return self.services["tenantry"]["command"][-1].replace("$$", "$")

    @property
    def shards(self):
        words = shlex.split(self.command)
        given = [words[at + 1] for at, word in enumerate(words) if word == "--shard"]
        return tuple(_shard(number, it) for number, it in enumerate(given, start=1))


def compose(*arguments, check=True):
    program = Path(sysconfig.get_path("scripts"), "docker-compose")
    # The environment would go before the file of values.
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    return subprocess.run(
        [program, *arguments], capture_output=True, text=True, check=check, env=env
    )


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    values = {name: given or f"word-of-{name.lower()}" for name, given in NAMES}
    env_file = tmp_path_factory.mktemp("compose") / "env"
    env_file.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    read = compose("--file", FILE, "--env-file", env_file, "config", "--format", "json")
    assert read.stderr == ""
    return Project(json.loads(read.stdout), values)
