"""Stores over gRPC: the daemons, what they are compared with, and one run over both."""

import json
import os
import shlex
import signal
import socket
import subprocess
import time
from pathlib import Path

from harness import process
from harness.paths import BENCH, remove_tree
from harness.session import say, unmount_all

START_SECONDS = 30
COMMAND_SECONDS = 900
SMALL_FOLDERS = 50
SMALL_SIZES = (100, 4000)


def compile_tool(name, folder, *libraries):
    process.run([os.environ.get("CC", "cc"), "-std=gnu17", "-D_GNU_SOURCE", "-O2", "-pthread",
                 "-o", folder / name, BENCH / f"{name}.c", *libraries], 120)


def grpc_libraries():
    done = subprocess.run(["pkg-config", "--cflags", "--libs", "grpc"], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=30)
    if done.returncode != 0:
        raise process.RunError("no libgrpc: install libgrpc-dev")
    return shlex.split(done.stdout)


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Daemon:
    """cairn daemon on a unix socket and on loopback TCP; a context manager."""

    def __init__(self, program, store, folder):
        self.socket = folder / "socket"
        self.log = folder / "daemon.log"
        port = free_port()
        self.addresses = {"unix": f"grpc+unix://{self.socket}",
                          "tcp": f"grpc+http://127.0.0.1:{port}"}
        self.words = [program, "--store", store, "daemon", f"--listen=unix:{self.socket}",
                      f"--listen=tcp:127.0.0.1:{port}"]

    def __enter__(self):
        with open(self.log, "wb") as file:
            self.process = subprocess.Popen(self.words, stdin=subprocess.DEVNULL, stdout=file,
                                            stderr=file)
        deadline = time.monotonic() + START_SECONDS
        while self.log.read_text().count("listening") < len(self.addresses):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.end()
                raise process.RunError(f"the daemon does not start: {self.log.read_text()}")
            time.sleep(0.01)
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def cpu_seconds(self):
        return process.cpu_seconds(self.process.pid)

    def memory(self):
        return process.memory(self.process.pid).get("VmHWM", 0)


def make_small(top, count):
    """Files of a few hundred bytes to 4 KB, no two the same; for naive all in one folder."""
    for number in range(count):
        folder = top / f"{number * SMALL_FOLDERS // count:03}"
        folder.mkdir(parents=True, exist_ok=True)
        low, high = SMALL_SIZES
        size = low + number * 2654435761 % (high - low)
        (folder / f"{number:06}").write_bytes((b"%08d" % number) * (size // 8))


class Run:
    """
    Everything lies below `work`, which its owner removes; the daemons' stores and what is sent
    below `memory`, a file system without a disk: this is about the way between them.
    """

    def __init__(self, program, work, memory, tree, quick):
        self.program, self.work, self.memory = program, work, memory
        self.tree = tree / "tree"
        self.manifest = json.loads((tree / "manifest.json").read_text())
        self.large_bytes = (256 if quick else 1024) << 20
        self.small_count = 5_000 if quick else 50_000
        self.samples = {}
        self.round = 0
        self.large = memory / "large"
        self.small = memory / "small"
        self.local = work / "local"

    def cairn(self, store, *arguments, **kw):
        return process.run([self.program, "--store", store, *arguments], COMMAND_SECONDS, **kw)

    def tool(self, name, *arguments):
        done = process.run([self.work / name, *arguments], COMMAND_SECONDS)
        return json.loads(done.output)

    def prepare(self):
        compile_tool("stream", self.work)
        compile_tool("drain", self.work)
        compile_tool("walk", self.work)
        compile_tool("naive", self.work, *grpc_libraries())
        with open(self.large, "wb") as file:
            for _ in range(self.large_bytes >> 20):
                file.write(os.urandom(1 << 20))
        make_small(self.small, self.small_count)
        (self.memory / "flat").mkdir()
        for path in self.small.glob("*/*"):
            os.link(path, self.memory / "flat" / path.name)
        say("importing the tree")
        self.cairn(self.local, "import", "--name", "tree", self.tree)

    def clean(self):
        unmount_all(self.work)
        remove_tree(self.memory)

    def record(self, key, contender, value, **details):
        sample = {"value": value, "round": self.round, **details}
        self.samples.setdefault(key, {}).setdefault(contender, []).append(sample)
        say(f"  {key:12} {contender:10} {value:.6g} {details or ''}")

    def turn(self, contenders):
        """Another one goes first in every round."""
        start = self.round % len(contenders)
        return contenders[start:] + contenders[:start]

    def fresh(self, name):
        """A place without a disk where nothing is."""
        path = self.memory / name
        remove_tree(path)
        return path

    def daemon(self, store):
        return Daemon(self.program, store, self.work)

    # ---- One large blob ----

    def plain(self, key, kind):
        seen = self.tool("stream", kind, self.large)
        if seen["bytes"] != self.large_bytes:
            raise process.RunError(f"{seen['bytes']} bytes came over a plain socket")
        self.record(key, f"plain {kind}", seen["seconds"])

    def upload(self, kind):
        store = self.fresh("store")
        with self.daemon(store) as daemon:
            done = self.cairn(daemon.addresses[kind], "import", "--no-cache", "--name", "large",
                              self.large)
            self.record("large.up", f"cairn {kind}", done.seconds,
                        cpu=round(done.cpu_seconds, 3), daemon_cpu=daemon.cpu_seconds())

    def download(self, kind):
        with self.daemon(self.memory / "store") as daemon:
            seen = self.tool("drain", self.program, "--store", daemon.addresses[kind], "cat",
                             "large")
            if seen["bytes"] != self.large_bytes:
                raise process.RunError(f"{seen['bytes']} bytes came from cairn {kind}")
            self.record("large.down", f"cairn {kind}", seen["seconds"],
                        cpu=round(seen["cpu_seconds"], 3), daemon_cpu=daemon.cpu_seconds())

    def measure_large(self):
        self.tool("stream", "unix", self.large)
        for key, ours in (("large.up", self.upload), ("large.down", self.download)):
            for who, kind in self.turn([(self.plain, "tcp"), (ours, "tcp"), (self.plain, "unix"),
                                        (ours, "unix")]):
                who(*([key] if who == self.plain else []), kind)

    # ---- Many small ones ----

    def put_naive(self):
        store = self.fresh("naive")
        with self.daemon(store) as daemon:
            seen = self.tool("naive", "put", f"unix:{daemon.socket}", self.memory / "flat",
                             self.work / "digests")
            self.check_naive(seen)
            self.record("small.put", "naive", seen["seconds"])

    def get_naive(self):
        with self.daemon(self.memory / "naive") as daemon:
            seen = self.tool("naive", "get", f"unix:{daemon.socket}", self.work / "digests")
            self.check_naive(seen)
            self.record("small.get", "naive", seen["seconds"])

    def check_naive(self, seen):
        if seen["blobs"] != self.small_count:
            raise process.RunError(f"{seen['blobs']} blobs instead of {self.small_count}")

    def put_import(self):
        """From files, as naive does it."""
        store = self.fresh("imported")
        with self.daemon(store) as daemon:
            done = self.cairn(daemon.addresses["unix"], "import", "--no-cache", "--name", "small",
                              self.small)
            self.record("small.put", "import", done.seconds)

    def get_export(self):
        """To files, which naive does not make."""
        with self.daemon(self.memory / "imported") as daemon:
            done = self.cairn(daemon.addresses["unix"], "export", "small", self.fresh("out"))
            self.record("small.get", "export", done.seconds)

    def put_push(self):
        """From another store."""
        store = self.fresh("pushed")
        with self.daemon(store) as daemon:
            done = self.cairn(self.memory / "imported", "push", "--to", daemon.addresses["unix"],
                              "small")
            self.record("small.put", "push", done.seconds)

    def get_pull(self):
        """Into another store."""
        with self.daemon(self.memory / "imported") as daemon:
            done = self.cairn(self.fresh("pulled"), "pull", "--from", daemon.addresses["unix"],
                              "small")
            self.record("small.get", "pull", done.seconds)

    def measure_small(self):
        self.put_import()
        for action in self.turn([self.put_naive, self.put_push]):
            action()
        for action in self.turn([self.get_naive, self.get_export, self.get_pull]):
            action()

    # ---- A lazy mount ----

    def first_file(self):
        """Some file in the depth of the tree, the same in all rounds."""
        for folder, folders, names in os.walk(self.tree):
            folders.sort()
            if len(Path(folder).relative_to(self.tree).parts) >= 4 and names:
                return Path(folder).relative_to(self.tree) / min(names)
        raise process.RunError("the tree has no depth")

    def mounted(self, name, store):
        """A new mount: the first file, then a walk over everything."""
        point = self.work / "mnt"
        point.mkdir(exist_ok=True)
        begin = time.monotonic()
        self.cairn(store, "mount", point)
        try:
            (point / "tree" / self.first_file_path).read_bytes()
            self.record("lazy.first", name, time.monotonic() - begin)
            seen = self.tool("walk", "stat", point / "tree")
            if seen["files"] != self.manifest["files"]:
                raise process.RunError(f"{name}: {seen['files']} files are seen")
            self.record("lazy.walk", name, seen["seconds"])
        finally:
            process.run([self.program, "umount", point], COMMAND_SECONDS)
            for pid in process.children() - self.before:
                process.end_daemon(pid, START_SECONDS)

    def measure_lazy(self):
        self.first_file_path = self.first_file()
        near = self.fresh("near")
        with self.daemon(self.local) as daemon:
            far = daemon.addresses["unix"]
            lazy = f"cache://?near=file://{near}&far={far}"
            self.before = process.children()
            for name, store in self.turn([("local", self.local), ("far", far), ("lazy", lazy)]):
                self.mounted(name, store)
            self.mounted("lazy again", lazy)

    PARTS = {"large": measure_large, "small": measure_small, "lazy": measure_lazy}
