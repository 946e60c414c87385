"""
Importers, readers and a mount at work while garbage is collected again and again: nothing that
is in use is lost. CAIRN_TEST_GC_SECONDS=300 goes on for five minutes.
"""
import collections
import contextlib
import os
import random
import subprocess
import threading
import time

import pytest

from harness import (CAIRN, assert_same_tree, environment, remove_tree, start, write)
from test_gc import entered, gc, used

pytestmark = pytest.mark.fuse
SECONDS = float(os.environ.get("CAIRN_TEST_GC_SECONDS", "8"))
SHARED = 40


class Load:
    """Threads that go on until one of them finds a fault, or the time is over."""

    def __init__(self, store, folder):
        self.store = store
        self.folder = folder
        self.end = time.monotonic() + SECONDS
        self.faults = []
        self.counts = collections.Counter()
        self.threads = []

    def go_on(self):
        return time.monotonic() < self.end and not self.faults

    def loop(self, what, seed):
        rng = random.Random(seed)
        try:
            while self.go_on():
                what(rng)
                self.counts[what.__name__] += 1
        except BaseException as e:  # pylint: disable=broad-except
            self.faults.append(f"{what.__name__}: {e!r}")

    def run(self, *whats):
        for i, what in enumerate(whats):
            thread = threading.Thread(target=self.loop, args=(what, i))
            thread.start()
            self.threads.append(thread)
        for thread in self.threads:
            thread.join()
        assert not self.faults, self.faults


def change(path, rng):
    """A tree, of which much is in others, too, so that it comes and goes and comes again."""
    for _ in range(rng.randrange(5, 25)):
        content = random.Random(rng.randrange(SHARED))
        size = 400_000 if content.random() < 0.1 else content.randrange(1, 30_000)
        write(path / f"d{rng.randrange(4)}/f{rng.randrange(30)}", content.randbytes(size))


def importer(load, number):
    tree = load.folder / f"tree{number}"
    out = load.folder / f"out{number}"
    name = tree.name

    def imports(rng):
        """Imports, looks whether all of it is there, and sometimes takes the name away."""
        change(tree, rng)
        load.store.add(tree, None, "--replace", *(["--no-cache"] if rng.random() < 0.5 else []))
        load.store.cairn("export", name, out)
        assert_same_tree(out, tree)
        remove_tree(out)
        if rng.random() < 0.5:
            load.store.cairn("roots", "remove", name)
            if rng.random() < 0.4:
                remove_tree(tree)

    return imports


def store_paths(load):
    tree, out = load.folder / "path", load.folder / "path-out"

    def imports_store_paths(rng):
        change(tree, rng)
        path = load.store.cairn("nix", "import", tree).out.strip()
        load.store.cairn("export", path, out)
        assert_same_tree(out, tree)
        remove_tree(out)
        if rng.random() < 0.7:
            load.store.cairn("nix", "remove", path)

    return imports_store_paths


def reader(load, kept):
    def exports(_):
        out = load.folder / "kept-out"
        load.store.cairn("export", kept.name, out)
        assert_same_tree(out, kept)
        remove_tree(out)

    return exports


def walker(inside, tree):
    def walks(_):
        """What has no name any more, and is held by the mount."""
        assert_same_tree(inside, tree)

    return walks


def pusher(load, far):
    tree = load.folder / "pushed"

    def pushes(rng):
        change(tree, rng)
        far.add(tree, None, "--replace")
        load.store.cairn("pull", "--replace", "--from", far.path, tree.name)
        if rng.random() < 0.5:
            load.store.cairn("roots", "remove", tree.name)

    return pushes


def collector(load):
    def collects(rng):
        """Sometimes it is killed."""
        if rng.random() < 0.3:
            process = start([CAIRN, "--store", load.store.path, "gc", "-q"], env=environment(),
                            stdout=subprocess.DEVNULL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(rng.random() * 0.2)
            process.kill()
            process.wait()
            load.counts["kills"] += 1
        else:
            load.counts["freed"] += gc(load.store)["freed_bytes"]

    return collects


def test_nothing_in_use_is_lost(store, mount, folder):
    load = Load(store, folder)
    trees = [folder / name for name in ("kept", "held")]
    for i, tree in enumerate(trees):
        change(tree, random.Random(100 + i))
        store.add(tree)
    m = mount(store)
    far = type(store)(folder / "far")
    # Seen by the mount, so that it holds it when it loses its name.
    with entered(m / "held") as inside:
        store.cairn("roots", "remove", "held")
        load.run(importer(load, 0), importer(load, 1), importer(load, 2), store_paths(load),
                 reader(load, trees[0]), walker(inside, trees[1]), pusher(load, far),
                 collector(load))
    print(dict(load.counts))
    assert load.counts["collects"] > 2
    assert load.counts["freed"] > 0

    m.stop()
    store.cairn("fsck", "--read-data")
    for number, name in enumerate(store.roots()):
        store.cairn("export", name, folder / f"last{number}")
        assert_same_tree(folder / f"last{number}", folder / name)
    # With nobody at work, what it says is what the disk says, and all of it goes.
    before = used(store)
    assert gc(store)["freed_bytes"] == before - used(store)
    store.cairn("roots", "remove", *store.roots())
    before = used(store)
    # That paths were forgotten is written to a pack, before anything is freed.
    said = gc(store, "--paths=none")
    written = said["paths_removed"] * 200 + 8192
    assert said["freed_bytes"] - written <= before - used(store) <= said["freed_bytes"]
    # Removals of names are needed as long as there may be an older put of one.
    assert used(store) < 200_000
