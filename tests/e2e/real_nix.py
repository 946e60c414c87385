"""Real Nix as the oracle: its programs on a store of their own, which touch nothing else."""
import json
import os
import pathlib
import shutil
import subprocess

import pytest

from harness import AS_ROOT, TIMEOUT, run

PROGRAMS = ("nix", "nix-store", "nix-hash", "nix-instantiate")
CONFIG = """\
build-users-group =
sandbox = false
substituters =
experimental-features = nix-command
max-jobs = 2
"""


class Nix:
    """Nix's programs with the store, configuration and home in a folder."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.root = self.folder / "root"
        self.physical = self.root / "nix/store"
        self.env = {
            "NIX_CONF_DIR": str(self.folder / "conf"),
            "HOME": str(self.folder / "home"),
            "XDG_CACHE_HOME": str(self.folder / "home/cache"),
            "NIX_REMOTE": "",
            "NIX_PATH": "",
        }
        for name in ("conf", "home", "root"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "conf/nix.conf").write_text(CONFIG)

    def run(self, program, *args, **kw):
        return run([program, "--store", self.root, *args], env=self.env, **kw)

    def store(self, *args, **kw):
        """nix-store …"""
        return self.run("nix-store", *args, **kw)

    def command(self, *args, **kw):
        """nix …"""
        return run(["nix", *args, "--store", self.root], env=self.env, **kw)

    def dump(self, path):
        """The NAR of a path, as a stream to read from."""
        return subprocess.Popen(["nix-store", "--dump", os.fspath(path)], stdout=subprocess.PIPE,
                                env={**os.environ, **self.env})

    def path_info(self, *paths):
        """nix path-info --json --recursive"""
        return json.loads(self.command("path-info", "--json", "--recursive", *paths,
                                       timeout=4 * TIMEOUT).out)

    def allow_removal(self):
        """Nix takes the right to write from what it has."""
        if not AS_ROOT:
            run(["chmod", "-R", "u+w", self.root], timeout=4 * TIMEOUT)


def fault():
    """Why there is no real Nix here, or None."""
    missing = [p for p in PROGRAMS if shutil.which(p) is None]
    return f"no {missing[0]}: install nix-bin" if missing else None


needs_nix = pytest.mark.skipif(fault() is not None, reason=str(fault()))
