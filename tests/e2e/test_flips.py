"""A byte that changed on the disk is found, or harmless; nobody is ever given wrong data.

Single bytes are changed at random places of the index, the packs, the large files and the format
file of a store. CAIRN_FLIPS is how many (default 40), CAIRN_FLIPS_SEED where the choice begins,
CAIRN_FLIPS_LOG a file for what came of each.
"""
import hashlib
import json
import os
import random
import shutil

import pytest

from harness import CAIRN, Store, pattern, run, write
from nix_paths import StorePath

FLIPS = int(os.environ.get("CAIRN_FLIPS", "40"))
SEED = int(os.environ.get("CAIRN_FLIPS_SEED", "1"))
LOG = os.environ.get("CAIRN_FLIPS_LOG")
ROOTS = ("tree", "script", "link", "sub")


def text(n, size):
    """What compresses."""
    return (b"line %d of many that are much alike\n" % n) * (size // 30)


def make_tree(path):
    for i in range(12):
        write(path / f"raw/{i}", pattern(200 + 777 * i)[i:])
        write(path / f"text/deep/{i}", text(i, 6000 + 500 * i))
    write(path / "large/one", pattern(300 << 10))
    write(path / "large/two", pattern((2 << 20) + 12345)[99:])
    write(path / "script", b"#!/bin/sh\necho hello\n")
    (path / "script").chmod(0o755)
    (path / "link").symlink_to("large/one")


def fill(store, tree):
    store.add(tree, "tree")
    store.add(tree / "script", "script")
    store.add(tree / "link", "link")
    store.add(tree / "raw", "sub")
    store.add(tree / "text", "sub", "--replace")
    store.add(tree / "text", "removed")
    store.cairn("roots", "remove", "removed")
    for name in ("text", "raw"):
        StorePath(tree / name, name).put(store)


def outputs(address):
    """What a store gives: for each question the answer, or the exit code when there is none."""
    questions = [("roots", "--json"), ("nix", "path-info", "--json", "--all")]
    questions += [("nar", "dump", name) for name in ROOTS]
    answers = {}
    for question in questions:
        result = run([CAIRN, "--store", address, *question], check=False)
        assert result.code >= 0, f"a crash: {result}"
        answers[question] = (hashlib.sha256(result.raw).hexdigest()
                             if result.code == 0 else result.code)
    return answers


def fsck(store, *args):
    result = run([CAIRN, "--store", store.path, "fsck", "--read-data", "--json", *args],
                 check=False)
    assert result.code in (0, 4, 10), f"not checked, or a crash: {result}"
    return result.code, result


def compare(got, right):
    """Every answer is right, or an error."""
    for question, answer in got.items():
        # A name that is not found is a tree that nobody is given.
        assert answer == right[question] or isinstance(answer, int), question


def compare_mount(mounted, tree):
    """Every byte of a tree that a mount gives is right, or reading it fails."""
    for path in tree.rglob("*"):
        shown = mounted / "tree" / path.relative_to(tree)
        try:
            if path.is_symlink():
                assert os.readlink(shown) == os.readlink(path)
            elif path.is_file():
                assert shown.read_bytes() == path.read_bytes()
                assert bool(shown.stat().st_mode & 0o111) == bool(path.stat().st_mode & 0o111)
            else:
                assert sorted(os.listdir(shown)) == sorted(os.listdir(path))
        except OSError:
            pass


def started(daemon):
    """Is it ready? Who cannot start says why, and gives nothing."""
    try:
        daemon.wait_ready()
        return True
    except AssertionError as error:
        assert "the daemon ended" in str(error)
        assert daemon.wait_exit() > 0, "a crash"
        return False


def try_servers(store, right, folder, mount, serve):
    """What those give who go on for long."""
    served = serve(store, wait=False)
    if started(served):
        compare(outputs(served.address), right)
        assert served.stop() == 0
    mounted = mount(store, wait=False)
    if started(mounted):
        compare_mount(mounted, folder / "tree")
        assert mounted.stop() == 0


class Flip:
    """One byte changed, as long as it lasts."""

    def __init__(self, path, offset, bits):
        self.path, self.offset, self.bits = path, offset, bits

    def apply(self):
        mode = self.path.stat().st_mode
        self.path.chmod(0o644)
        with open(self.path, "r+b") as f:
            f.seek(self.offset)
            byte = f.read(1)[0]
            f.seek(self.offset)
            f.write(bytes([byte ^ self.bits]))
        self.path.chmod(mode)

    __enter__ = apply

    def __exit__(self, *_):
        self.apply()

    def __str__(self):
        return f"{self.path.parent.name}/{self.path.name} {self.offset} {self.bits:#x}"


def choose(store, random_numbers):
    kinds = {
        "index": [store.path / "index/data.mdb"],
        "packs": sorted((store.path / "packs").iterdir()),
        "files": sorted((store.path / "files").glob("*/*")),
        "format": [store.path / "format"],
    }
    kind = random_numbers.choices(list(kinds), [50, 35, 10, 5])[0]
    path = random_numbers.choice(kinds[kind])
    content = path.read_bytes()
    at = random_numbers.randrange(len(content))
    if kind == "index" and random_numbers.random() < 0.8:
        # Most of it is empty.
        at = random_numbers.choice([i for i, byte in enumerate(content) if byte])
    return kind, Flip(path, at, random_numbers.randrange(1, 256))


def try_repair(store, other, right, folder):
    """What was found is brought back from another store."""
    copy = Store(folder / "copy")
    shutil.copytree(store.path, copy.path)
    code, result = fsck(copy, "--repair", "--from", other.path)
    assert code == 10, result
    assert fsck(copy)[0] == 0
    assert outputs(copy.path) == right
    copy.add(folder / "tree/raw", "after")
    assert fsck(copy)[0] == 0
    shutil.rmtree(copy.path)


@pytest.fixture
def stores(folder):
    make_tree(folder / "tree")
    made = []
    for name in ("store", "other"):
        made.append(Store(folder / name))
        fill(made[-1], folder / "tree")
    return made


def test_flips(stores, folder, mount, serve):
    store, other = stores
    right = outputs(store.path)
    assert all(isinstance(answer, str) for answer in right.values())
    assert fsck(store)[0] == 0
    counts = {"found": 0, "harmless": 0, "refused": 0, "repaired": 0}
    numbers = random.Random(SEED)
    for i in range(FLIPS):
        kind, flip = choose(store, numbers)
        with flip:
            code, result = fsck(store)
            got = outputs(store.path)
            try:
                compare(got, right)
                if i % 10 == 0:
                    try_servers(store, right, folder, mount, serve)
                if code == 0:
                    assert got == right, "not found, but something is not to be had"
                elif counts["found"] % 20 == 0:
                    try_repair(store, other, right, folder)
                    counts["repaired"] += 1
            except AssertionError as error:
                raise AssertionError(f"flip {i}: {flip}: {result}") from error
        counts["found" if code else "harmless"] += 1
        counts["refused"] += got != right
        if LOG:
            with open(LOG, "a") as log:
                print(json.dumps([kind, str(flip), code, got == right]), file=log)
    assert fsck(store)[0] == 0
    print(counts)
    assert counts["found"] > 0
