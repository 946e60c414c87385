"""One run: its places, its tools, the samples gathered, and mounted contenders."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from harness import machine, process
from harness.contenders import NATIVE
from harness.paths import BENCH, remove_tree

MOUNT_TIMEOUT = 120
DAEMON_END_TIMEOUT = 60
SETTLE_SECONDS = 30
RANDOM_READS = 20_000
RANDOM_SEED = 1
READERS = 8
TOOLS = ("walk", "pread", "drain", "readers", "lookup")


def say(text):
    print(text, file=sys.stderr, flush=True)


def build_tools(folder):
    """Compiles the clients; they are small enough to do it for every run."""
    folder.mkdir(parents=True, exist_ok=True)
    compiler = os.environ.get("CC", "cc")
    shutil.copy(BENCH / "sha256", folder)
    for name in TOOLS:
        process.run([compiler, "-std=gnu17", "-D_GNU_SOURCE", "-O2", "-pthread", "-o",
                     folder / name, BENCH / f"{name}.c"], 120)


def mounts_below(folder):
    """Mount points below a directory, the innermost first. (Names of ours need no unescaping:
    Bench refuses a directory with spaces.)"""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().split("\n"):
        fields = line.split(" ")
        if len(fields) > 4:
            if fields[4].startswith(f"{folder}/"):
                found.append(fields[4])
    return sorted(found, key=len, reverse=True)


def unmount_all(folder):
    for point in mounts_below(folder):
        command = ["umount", "-l"] if machine.is_root() else ["fusermount3", "-u", "-z"]
        subprocess.run([*command, point], timeout=60, stderr=subprocess.DEVNULL)


class DataSet:
    """A tree that contenders take in, and what it holds."""

    def __init__(self, name, tree, manifest):
        self.name = name
        self.tree = Path(tree)
        self.manifest = manifest
        self.sum = None  # of all names, modes and contents, once it was asked for
        self.generated = self.tree.parent / "generated"  # of sources.py; elsewhere not there
        self.objects = None  # digest of what was built of it
        self.repository = None  # of git, for it

    @property
    def entries(self):
        return sum(self.manifest[key] for key in ("files", "directories", "symlinks"))


class Bench:
    """The state of a run. Everything lies below `work`, which is removed at its end."""

    def __init__(self, work, tree, manifest, contenders, timeout):
        self.work = Path(work)
        self.main = DataSet("main", tree, manifest)
        self.sources = None  # a DataSet, for the scenarios that work with a source tree
        self.contenders = list(contenders)
        self.timeout = timeout
        self.cold = machine.can_drop_caches()
        self.samples = {}
        self.failed = {}
        self.round = 0
        self.archives = None

    @property
    def tree(self):
        return self.main.tree

    @property
    def manifest(self):
        return self.main.manifest

    def prepare(self):
        if any(byte <= 0x20 or byte == 0x5c for byte in os.fsencode(self.work)):
            raise process.RunError(f"{self.work}: spaces and backslashes are not supported here")
        self.clean()
        self.work.mkdir(parents=True)
        build_tools(self.work / "tools")

    def clean(self):
        unmount_all(self.work)
        for pid in process.children():
            if not process.await_exit(pid, 0):
                say(f"killing a daemon that was left, {pid}")
            process.kill_child(pid)
        remove_tree(self.work)

    # Turns

    def turn(self, able=lambda contender: True):
        """The contenders that can do something; another one goes first in every round."""
        left = [one for one in self.contenders if one.name not in self.failed and able(one)]
        if left:
            start = self.round % len(left)
            left = left[start:] + left[:start]
        return left

    def attempt(self, contender, action, *arguments):
        """Runs a part of a scenario. Who fails is out of the race, but does not end it."""
        if contender.name in self.failed:
            return
        try:
            action(self, contender, *arguments)
        except process.RunError as error:
            if contender.name == NATIVE:
                raise
            say(f"{contender.name} failed and is out:\n{error}")
            self.failed[contender.name] = str(error)
            unmount_all(self.work)

    def record(self, metric, contender, value, **details):
        sample = {"value": value, "round": self.round, **details}
        self.samples.setdefault(metric, {}).setdefault(contender.name, []).append(sample)
        say(f"  {metric:16} {contender.name:12} {value:.6g}")

    # Places and commands

    def places(self, contender, data=None):
        data = data or self.main
        base = self.work / contender.name / data.name
        owner = self.work / (contender.home_of or contender.name) / data.name
        return {"tree": data.tree, "home": owner / "home", "mnt": base / "mnt",
                "out": base / "out", "tools": self.work / "tools"}

    def run(self, contender, command, *, data=None, sample=False, pin=None, timeout=None,
            **places):
        words = contender.words(command, **self.places(contender, data), **places)
        prefix = ["taskset", "-c", str(pin)] if pin is not None else []
        return process.run(prefix + words, timeout or self.timeout, sample=sample)

    def drain(self, contender, command, **places):
        """Runs a command and takes its output through a pipe."""
        return self.probe("drain", *contender.words(command, **self.places(contender), **places))

    def tool(self, contender, command, **places):
        """Runs a command that is one of our clients."""
        return json.loads(self.run(contender, command, **places).output)

    def fresh_home(self, contender, data=None):
        home = self.places(contender, data)["home"]
        remove_tree(home)
        home.mkdir(parents=True)
        os.sync()

    def remove(self, contender, place):
        remove_tree(self.places(contender)[place])
        os.sync()

    def fresh_out(self, contender):
        """Makes sure that {out} is not there and can be made."""
        self.remove(contender, "out")
        self.places(contender)["out"].parent.mkdir(parents=True, exist_ok=True)

    def ensure_filled(self, contender, data=None):
        """For scenarios that need a store when the import scenarios did not leave one."""
        if contender.keeps_home and not any(self.places(contender, data)["home"].glob("*")):
            self.fresh_home(contender, data)
            self.run(contender, contender.fill, data=data)
            os.sync()

    # Clients

    def probe(self, tool, *arguments, pin=None):
        prefix = ["taskset", "-c", str(pin)] if pin is not None else []
        done = process.run([*prefix, self.work / "tools" / tool, *arguments], self.timeout)
        return json.loads(done.output)

    def walk(self, mode, folder, pin=None, data=None):
        """Goes over a tree; RunError when it is not the one it should be."""
        keys = ("files", "directories", "symlinks", "name_bytes")
        return expect(self.probe("walk", mode, folder, pin=pin), folder, data or self.main,
                      keys if mode == "names" else (*keys, "bytes"))

    def readers(self, folder, pin=None):
        return expect(self.probe("readers", READERS, folder, pin=pin), folder, self.main,
                      ("files", "bytes"))

    def large(self, mode, view, pin=None):
        path = Path(view) / self.manifest["large_file"]
        extra = () if mode == "seq" else (RANDOM_READS, RANDOM_SEED)
        seen = self.probe("pread", mode, path, *extra, pin=pin)
        if mode == "seq" and seen["bytes"] != self.manifest["large_bytes"]:
            raise process.RunError(f"{path}: {seen['bytes']} bytes came")
        return seen

    def check(self, folder, data=None):
        """Compares names, modes and contents with those of the tree."""
        data = data or self.main
        if data.sum is None:
            data.sum = self.walk("check", data.tree, data=data)["sum"]
        if self.walk("check", folder, data=data)["sum"] != data.sum:
            raise process.RunError(f"{folder} is not what was put in")

    def warm_tree(self):
        self.walk("read", self.tree)


def expect(seen, folder, data, keys):
    """What a client has seen must be what the data set holds."""
    for key in keys:
        if seen[key] != data.manifest[key]:
            raise process.RunError(f"{folder} has {seen[key]} {key} where the tree has "
                                   f"{data.manifest[key]}")
    return seen


class Mounted:
    """A contender whose tree can be seen; a context manager that always takes it away again."""

    def __init__(self, bench, contender, *, data=None, cold=False, pin=None):
        self.bench = bench
        self.contender = contender
        self.data = data
        self.pin = pin
        self.cold = cold
        self.daemons = set()
        self.mount_seconds = None
        self.view = Path(contender.view.format(**bench.places(contender, data)))

    def __enter__(self):
        if self.cold:
            machine.drop_caches()
        if self.contender.mount:
            places = self.bench.places(self.contender, self.data)
            places["mnt"].mkdir(parents=True, exist_ok=True)
            before = process.children()
            try:
                done = self.bench.run(self.contender, self.contender.mount, data=self.data,
                                      pin=self.pin, timeout=MOUNT_TIMEOUT)
                self.mount_seconds = done.seconds
            finally:
                self.daemons = process.children() - before
        return self

    def __exit__(self, kind, error, trace):
        if not self.contender.umount:
            return
        try:
            self.bench.run(self.contender, self.contender.umount, data=self.data,
                           timeout=MOUNT_TIMEOUT)
        except process.RunError:
            unmount_all(self.bench.work)
            if kind is None:
                raise
        finally:
            for pid in self.daemons:
                process.end_daemon(pid, DAEMON_END_TIMEOUT)

    def timed(self, metric, probe, *arguments):
        """Runs a client and records its time, and the processor time on both sides."""
        before = self.daemon_cpu()
        seen = probe(*arguments, pin=self.pin)
        suffix = "@1" if self.pin is not None else ""
        self.bench.record(metric + suffix, self.contender, seen["seconds"],
                          client_cpu=seen["cpu_seconds"],
                          daemon_cpu=round(self.daemon_cpu() - before, 3))

    def daemon_cpu(self):
        return sum(process.cpu_seconds(pid) for pid in process.families(self.daemons))

    def anonymous(self):
        """Bytes of memory of the daemon that are its own, not of mapped files on a disk."""
        return sum(process.memory(pid).get(kind, 0) for pid in process.families(self.daemons)
                   for kind in ("RssAnon", "RssShmem"))

    def settled(self):
        """The same once it no longer changes: forgetting goes on behind the kernel's back."""
        if not self.daemons:
            return 0
        deadline = time.monotonic() + SETTLE_SECONDS
        last, since = self.anonymous(), time.monotonic()
        while time.monotonic() < deadline and time.monotonic() - since < 1:
            time.sleep(0.1)
            now = self.anonymous()
            if now != last:
                last, since = now, time.monotonic()
        return last
