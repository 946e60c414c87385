"""The machine crashes at some point of a command: what was synced is there, and nothing else is
sure. Commands are recorded with all that they do to a store, write by write and sync by sync;
from that, states are made that a crash may leave on a disk, and each one is looked at
(tests/crash). CAIRN_TEST_CRASH_STATES says how many."""
import os
import pathlib
import shutil
import struct
import tempfile

import nars
import pytest

from harness import CAIRN, HELPERS, Store, cairn, environment, pattern, run, start, write

# For each of the tests.
STATES = int(os.environ.get("CAIRN_TEST_CRASH_STATES", "70"))
RECORDER = HELPERS.parent / "crash/libcrash_recorder.so"
REPLAY = HELPERS.parent / "crash/crash_replay"
LARGE = 300 << 10


class Recording:
    """Stores in a folder, and the log of what commands do to them."""

    def __init__(self, folder):
        self.folder = folder / "recorded"
        self.log = folder / "log"
        self.states = folder / "states"
        self.folder.mkdir()
        self.states.mkdir()

    def environment(self, marks):
        return {"CAIRN_RECORD_FOLDER": str(self.folder), "CAIRN_RECORD_LOG": str(self.log),
                "CAIRN_RECORD_MARK": "\n".join(marks), "LD_PRELOAD": str(RECORDER)}

    def cairn(self, *args, marks=(), store="one", **kw):
        """A command and what it is going to do (tests/crash/marks.h)."""
        return run([CAIRN, "--store", store if "://" in store else self.folder / store, *args],
                   env=self.environment(marks),
                   **kw)

    def start(self, *args, marks):
        return start([CAIRN, "--store", self.folder / "one", *args],
                     env=environment(self.environment(marks)))

    def add(self, path, name=None, *args, store="one", mark="root"):
        name = name or path.name
        self.cairn("import", "--name", name, *args, path, marks=[f"one {mark} {name}"],
                   store=store)

    def add_as(self, level, path, **kw):
        """The same with another durability."""
        self.add(path, store=f"file://{self.folder}/one?durability={level}", **kw)

    def entries(self):
        """What was recorded, and whether it is a sync (tests/crash/log.h)."""
        head = struct.Struct("<IHHIIIIQQQQQ")
        data = self.log.read_bytes()
        at = 0
        syncs = []
        while at < len(data):
            _, op, flags, _, name, name2, *_, length = head.unpack_from(data, at)
            at += head.size + name + name2 + length
            syncs.append(op in (9, 10) or (op == 7 and flags & 1 == 1))
        return syncs

    def digest(self, name):
        values = cairn("--store", self.folder / "one", "roots", "--json").json()
        return next(v["digest"] for v in values if v["name"] == name)

    def replay(self, states=STATES, *options):
        return run([REPLAY, self.log, self.states, "--states", str(states), *options],
                   check=False, timeout=3600)

    def check(self, states=STATES):
        result = self.replay(states)
        print(result.out, result.err)
        assert result.code == 0, result


@pytest.fixture
def memory():
    """A folder for many states, none of which has to get to a disk."""
    parent = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    path = pathlib.Path(tempfile.mkdtemp(prefix="cairn-crash-", dir=parent))
    yield path
    shutil.rmtree(path)


def tree(top, seed, files=12, large=0):
    for i in range(files):
        write(top / f"d{i % 3}" / f"f{i}", pattern(80 + 997 * i, seed * 100 + i + 1))
    for i in range(large):
        write(top / f"large{i}", pattern(LARGE + i, seed * 100 + 50 + i))
    (top / "link").symlink_to("d0")
    return top


def store_path(folder, path):
    """What `nix import` will call it."""
    scratch = Store(folder / "scratch")
    return pathlib.Path(scratch.cairn("nix", "import", path).out.strip()).name


def test_imports_and_names(memory):
    """Names that come, change and go; large files, one by one and many; what was seen before."""
    r = Recording(memory)
    r.add(tree(memory / "a", 1, large=1))
    r.add(tree(memory / "b", 2, large=6))
    r.add(memory / "a", "again")
    write(memory / "a/d0/f0", "changed")
    r.add(memory / "a", "a", "--replace")
    r.cairn("roots", "remove", "again", marks=["one no-root again"])
    r.cairn("roots", "add", "again", "b", marks=[f"one root again {r.digest('b')}"])
    r.cairn("reindex")
    r.add(tree(memory / "c", 3, large=2))
    r.check()


# Every sync there is, by the name of what it is of.
SYNCS = ["one/packs/*.pack", "one/packs", "one/index/data.mdb", "O_DSYNC", "one/index", "one",
         ".", "one/format.*", "one/files", "one/files/??", "one/tmp/*/*", "syncfs"]


def test_every_sync_is_needed(memory):
    """The replay finds what is wrong when any one kind of sync is left out."""
    r = Recording(memory)
    r.add(tree(memory / "a", 1, large=1))
    r.add(tree(memory / "b", 2, large=6))
    r.cairn("reindex")
    for pattern_ in SYNCS:
        result = r.replay(150, "--stop-after", "1", "--swallow", pattern_)
        assert result.code == 1, f"nothing is wrong without sync of {pattern_}: {result}"


def test_levels_of_durability(memory):
    """Less is waited for, in the same order; the names of a batch are as durable as any."""
    r = Recording(memory)
    r.add(tree(memory / "first", 30))
    counts = {}
    for i, level in enumerate(("full", "batch", "none")):
        before = len(r.entries())
        r.add_as(level, tree(memory / level, 31 + i, large=1),
                 mark="?root" if level == "none" else "root")
        counts[level] = sum(r.entries()[before:])
        if level == "batch":
            r.check()
    assert counts["full"] > counts["batch"] > counts["none"] == 0, counts
    # The option is for addresses that do not say it.
    before = len(r.entries())
    r.cairn("--durability=none", "import", memory / "none", "--name", "by-option")
    assert sum(r.entries()[before:]) == 0
    r.cairn("--durability=none", "import", memory / "none", "--name", "by-address",
            store=f"file://{r.folder}/one?durability=full")
    assert sum(r.entries()[before:]) > 0
    assert r.cairn("--durability=most", "roots", check=False).code == 2


def test_names_above_what_was_not_synced(memory):
    """Whoever syncs also syncs what others have not, before a name stands for it."""
    r = Recording(memory)
    r.add(tree(memory / "first", 40))
    r.add_as("none", tree(memory / "second", 41, large=1), mark="?root")
    again = tree(memory / "third", 41, large=1)
    r.add(again)
    named = len(r.entries())
    r.add(tree(memory / "fourth", 42))
    result = r.replay(STATES, "--from", str(named))
    assert result.code == 0, result
    result = r.replay(150, "--from", str(named), "--stop-after", "1", "--swallow", "syncfs")
    assert result.code == 1, result


def test_store_paths_and_pushes(memory):
    """Path infos that come and go, archives, and a second store that is made by a push."""
    r = Recording(memory)
    tree(memory / "package", 4, large=1)
    write(memory / "text", "text\n")
    bases = [store_path(memory, memory / name) for name in ("package", "text")]
    r.cairn("nix", "import", memory / "package", memory / "text",
            marks=[f"one path {base}" for base in bases])
    write(memory / "nar", nars.of_tree(tree(memory / "unpacked", 5, large=2)))
    r.cairn("nar", "import", "--name", "unpacked", memory / "nar", marks=["one root unpacked"])
    r.cairn("push", "--to", r.folder / "two", "--all",
            marks=[f"two root unpacked {r.digest('unpacked')}", *(f"two path {b}" for b in bases)])
    r.cairn("nix", "remove", bases[1], marks=[f"one no-path {bases[1]}"])
    r.cairn("nix", "import", memory / "text", marks=[f"one path {bases[1]}"])
    r.check()


def test_collecting(memory):
    """A collection of garbage takes files, empties packs and moves what they hold elsewhere."""
    r = Recording(memory)
    for i in range(3):
        r.add(tree(memory / f"t{i}", i + 20, large=1))
    r.cairn("roots", "remove", "t0", "t1", marks=["one no-root t0", "one no-root t1"])
    r.cairn("gc")
    r.add(memory / "t0", "t0")
    r.cairn("gc")
    r.check()


def test_importers_at_once(memory):
    """Several processes write, each to a pack of its own, and make folders that others use."""
    r = Recording(memory)
    trees = [tree(memory / f"t{i}", i + 6, large=i) for i in range(4)]
    for again in range(2):
        names = [f"{t.name}-{again}" for t in trees]
        for t in trees:
            write(t / "new", pattern(LARGE + again, 77))
        processes = [r.start("import", "--name", name, t, marks=[f"one root {name}"])
                     for name, t in zip(names, trees)]
        assert all(p.wait() == 0 for p in processes)
    r.check()
