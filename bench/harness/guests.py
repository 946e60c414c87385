"""Guests as clients: the tree they see, who serves it to them, and one run over both."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from harness import process
from harness.paths import BENCH, PROJECT, remove_tree
from harness.session import say

sys.path.insert(0, str(PROJECT / "tests/e2e"))

from guest import image, machine  # noqa: E402
from guest.machine import GuestError  # noqa: E402,F401

VIRTIOFSD = Path("/usr/lib/qemu/virtiofsd")
START_SECONDS = 30
COMMAND_SECONDS = 600
# Where every Debian has small files of all kinds.
SOURCES = ("/usr/include", "/usr/share", "/usr/lib/python3", "/usr/lib/gcc")
LARGEST_FILE = 256 << 10


def missing():
    """Why nothing can be measured here, or None."""
    if not VIRTIOFSD.exists():
        return f"no {VIRTIOFSD}: install qemu-system-common"
    if os.geteuid() != 0:
        return "virtiofsd needs root"
    return image.missing()


def describe_guest():
    version = subprocess.run([image.QEMU, "--version"], capture_output=True, text=True,
                             check=True, timeout=30).stdout.split("\n")[0]
    return f"{version}, without KVM, 1 CPU, 512 MB, queue size 1024"


# ---- The tree ----

def candidates():
    for source in SOURCES:
        for folder, folders, names in os.walk(source):
            folders.sort()
            for name in sorted(names):
                path = os.path.join(folder, name)
                if os.path.islink(path):
                    continue
                with contextlib.suppress(OSError):
                    if os.path.getsize(path) <= LARGEST_FILE:
                        yield path


def make_tree(top, quick):
    """tree/ real files in their folders, small/ 1 KiB each in one folder, large one file."""
    wanted, small, large = (1_000, 200, 32) if quick else (9_000, 2_000, 256)
    counts = {"files": 0, "directories": 0}
    for path in candidates():
        target = Path(f"{top}/tree{path}")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        target.chmod(0o444)
        counts["files"] += 1
        if counts["files"] == wanted:
            break
    counts["directories"] = sum(len(folders) for _, folders, _ in os.walk(top / "tree"))
    (top / "small").mkdir()
    for number in range(small):
        (top / f"small/{number:05}").write_bytes((b"%08d" % number) * 128)
    with open(top / "large", "wb") as file:
        for number in range(large):
            file.write((b"%016d" % number) * 65536)
    return {**counts, "small": small, "large_bytes": large << 20}


# ---- Scenarios ----

class Scenario:
    def __init__(self, key, command, before=None):
        self.key = key
        self.command = command
        self.before = before  # the scenario whose traces it wants to find


# In this order after each boot; "cold" is what the guest's kernel knows: nothing.
SCENARIOS = (
    Scenario("walk.cold", "walk stat /mnt/tree"),
    Scenario("walk.warm", "walk stat /mnt/tree", "walk.cold"),
    Scenario("small.cold", "walk read /mnt/small"),
    Scenario("small.warm", "walk read /mnt/small", "small.cold"),
    Scenario("read.cold", "walk read /mnt/tree"),
    Scenario("seq.cold", "pread seq /mnt/large"),
)


# ---- Contenders ----

class Server:
    """A daemon for one boot; a context manager."""

    def __init__(self, command, socket, log):
        self.socket = socket
        self.log = log
        with open(log, "wb") as file:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file,
                                            stderr=file)

    def __enter__(self):
        deadline = time.monotonic() + START_SECONDS
        while not self.socket.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.end()
                raise process.RunError(f"the daemon does not start: {self.log.read_text()}")
            time.sleep(0.01)
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.terminate()
            self.process.wait(START_SECONDS)
        self.process.kill()
        self.process.wait()
        self.socket.unlink(missing_ok=True)

    def cpu_seconds(self):
        return process.cpu_seconds(self.process.pid)

    def memory(self):
        return process.memory(self.process.pid).get("RssAnon", 0)


class Virtiofsd:
    name = "virtiofsd"
    about = "Debian's virtiofsd in C, cache=always, on the plain tree"

    def prepare(self, top):
        self.source = top

    def server(self, folder, count):
        """sandbox=chroot, which containers permit; it is of no account for speed."""
        socket = folder / "virtiofsd"
        words = [VIRTIOFSD, f"--socket-path={socket}", "-o",
                 f"source={self.source},cache=always,sandbox=chroot", "-d" if count else "-f"]
        return Server(words, socket, folder / "virtiofsd.log")

    def requests(self, log):
        counts = {}
        for name in re.findall(r"unique: \d+, opcode: (\w+) ", log.read_text(errors="replace")):
            counts[name] = counts.get(name, 0) + 1
        return counts


class Cairn:
    def __init__(self, name, program, work):
        self.name = name
        self.program = program
        self.about = f"cairn virtiofs ({program.parent.name}), sandbox and all"
        self.store = work / f"{name}-store"

    def prepare(self, top):
        self.about = process.run([self.program, "--version"], 30).output + ", sandbox and all"
        for child in sorted(top.iterdir()):
            process.run([self.program, "--store", self.store, "import", "--name", child.name,
                         child], COMMAND_SECONDS)

    def server(self, folder, count):
        socket = folder / self.name
        words = [self.program, "--store", self.store, "virtiofs", "--list-root",
                 *(["-vv"] if count else []), socket]
        return Server(words, socket, folder / f"{self.name}.log")

    def requests(self, log):
        """Of all sessions; a reset begins a new one."""
        counts = {}
        for line in re.findall(r"\d+ requests: (.*)", log.read_text(errors="replace")):
            for word in line.split(", "):
                name, _, number = word.rpartition(" ")
                counts[name] = counts.get(name, 0) + int(number)
        return counts


# ---- A run ----

class Run:
    """Everything lies below `work`, which its owner removes."""

    def __init__(self, work, contenders, quick):
        self.work = work
        self.contenders = contenders
        self.samples = {}
        self.requests = {}
        top = work / "source"
        top.mkdir()
        self.tree = make_tree(top, quick)
        self.top = top
        self.boots = 0

    def prepare(self):
        for name in ("walk", "pread"):
            process.run([os.environ.get("CC", "cc"), "-std=gnu17", "-D_GNU_SOURCE", "-O2",
                         "-static", "-o", self.work / name, BENCH / f"{name}.c"], 120)
        for contender in self.contenders:
            contender.prepare(self.top)

    def clean(self):
        remove_tree(self.top)

    def turn(self, number):
        """Another contender goes first in every round."""
        start = number % len(self.contenders)
        return self.contenders[start:] + self.contenders[:start]

    @contextlib.contextmanager
    def booted(self, contender, count=False):
        """(server, guest), the file system mounted."""
        self.boots += 1
        folder = self.work / f"boot{self.boots}"
        folder.mkdir()
        files = {"/bin/walk": self.work / "walk", "/bin/pread": self.work / "pread"}
        with contender.server(folder, count) as server:
            with machine.Guest(folder, [("fs", server.socket)], files=files) as guest:
                guest.wait_boot()
                # Read-only: else each read makes the kernel ask for a new atime.
                guest.run("mount -t virtiofs -o ro fs /mnt")
                yield server, guest
                guest.run("umount /mnt")
                guest.power_off()

    def check(self, scenario, seen):
        tree = self.tree
        expected = {
            "walk": ("files", tree["files"]), "read": ("files", tree["files"]),
            "small": ("files", tree["small"]), "seq": ("bytes", tree["large_bytes"]),
        }[scenario.key.split(".")[0]]
        if seen[expected[0]] != expected[1]:
            raise process.RunError(f"{scenario.key}: {seen[expected[0]]} {expected[0]} instead of "
                                   f"{expected[1]}")

    def probe(self, guest, scenario):
        seen = json.loads(guest.read(scenario.command, timeout=COMMAND_SECONDS))
        self.check(scenario, seen)
        return seen

    def boot_and_measure(self, contender, number):
        with self.booted(contender) as (server, guest):
            for scenario in SCENARIOS:
                if scenario.key == "read.cold":
                    # Known entries would be half of the way.
                    guest.run("echo 3 > /proc/sys/vm/drop_caches")
                before = server.cpu_seconds()
                seen = self.probe(guest, scenario)
                self.record(scenario.key, contender, number, seen["seconds"],
                            guest_cpu=seen["cpu_seconds"],
                            daemon_cpu=round(server.cpu_seconds() - before, 3))
            self.record("memory", contender, number, server.memory())

    def record(self, key, contender, number, value, **details):
        sample = {"value": value, "round": number, **details}
        self.samples.setdefault(key, {}).setdefault(contender.name, []).append(sample)
        say(f"  {key:12} {contender.name:12} {value:.6g} {details or ''}")

    def count_once(self, contender, scenarios):
        with self.booted(contender, count=True) as (server, guest):
            for scenario in scenarios:
                self.probe(guest, scenario)
        return contender.requests(server.log)

    def count_requests(self):
        """A boot for each scenario, less what mounting and the scenario before it cost."""
        by_key = {scenario.key: scenario for scenario in SCENARIOS}
        for contender in self.contenders:
            counted = {None: self.count_once(contender, [])}
            for scenario in SCENARIOS:
                before = [by_key[scenario.before]] if scenario.before else []
                counted[scenario.key] = self.count_once(contender, [*before, scenario])
                base = counted[scenario.before]
                own = {name: count - base.get(name, 0)
                       for name, count in counted[scenario.key].items()
                       if count > base.get(name, 0) and name != "FORGET"}
                self.requests.setdefault(scenario.key, {})[contender.name] = own
                say(f"  {scenario.key:12} {contender.name:12} {sum(own.values())} {own}")
