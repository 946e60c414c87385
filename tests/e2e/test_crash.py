"""SIGKILL at random moments of an import: the store opens, and nothing committed is lost."""
import os
import random
import shutil
import subprocess
import time

import pytest

from harness import (CAIRN, TIMEOUT, Store, assert_same_tree, environment, pattern, remove_tree,
                     start, write)

POINTS = int(os.environ.get("CAIRN_TEST_CRASHES", "50"))
PARTS = 5


@pytest.fixture
def parts(source):
    """Trees that share some contents, with small files, large ones and symlinks."""
    paths = []
    for i in range(PARTS):
        top = source / f"part{i}"
        for j in range(150):
            write(top / f"d{j % 6}" / f"f{j}", pattern(100 + 37 * j, i * 100 + j + 1))
        write(top / "large", pattern((600 << 10) + i, i + 1))
        (top / "link").symlink_to(f"target{i}")
        paths.append(top)
    return paths


def import_parts(store, parts):
    """An import of all parts, which prints a line for each one that is committed."""
    return start([CAIRN, "--store", store.path, "import", *parts], stdout=subprocess.PIPE,
                 stderr=subprocess.PIPE, env=environment())


def finish(process):
    out, err = process.communicate(timeout=TIMEOUT)
    return out.decode(), err.decode()


def check_after_kill(store, printed, parts, expected, folder):
    roots = store.roots()
    assert "first" in roots
    for name in printed:
        assert name in roots, f"{name} was reported as imported, and is gone"
    for name, value in roots.items():
        assert value["digest"] == expected[name]
        out = folder / "out"
        store.cairn("export", name, out)
        assert_same_tree(folder / "first" if name == "first" else parts[int(name[4:])], out)
        remove_tree(out)
    process = import_parts(store, parts)
    _, err = finish(process)
    assert process.returncode == 0, err
    assert {n: v["digest"] for n, v in store.roots().items()} == expected


def test_kill_during_import(folder, parts):
    write(folder / "first/file", pattern(50_000))
    write(folder / "first/sub/large", pattern(700_000, 77))
    base = Store(folder / "base")
    base.add(folder / "first", "first")
    # What a whole import takes, and what it must give.
    whole = Store(folder / "whole")
    shutil.copytree(base.path, whole.path)
    begin = time.monotonic()
    process = import_parts(whole, parts)
    _, err = finish(process)
    duration = time.monotonic() - begin
    assert process.returncode == 0, err
    expected = {name: value["digest"] for name, value in whole.roots().items()}
    assert len(expected) == PARTS + 1
    chance = random.Random()
    killed = 0
    for point in range(POINTS):
        store = Store(folder / f"store{point}")
        shutil.copytree(base.path, store.path)
        delay = chance.uniform(0, duration)
        process = import_parts(store, parts)
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            process.kill()
            killed += 1
        out, err = finish(process)
        assert process.returncode in (0, -9), err
        lines = [line for line in out.splitlines(True) if line.endswith("\n")]
        printed = [word for line in lines for word in line.split() if word in expected]
        assert len(printed) == len(lines)
        try:
            check_after_kill(store, printed, parts, expected, folder)
        except AssertionError as error:
            raise AssertionError(f"killed after {delay:.4f} of {duration:.4f} s") from error
        remove_tree(store.path)
    assert killed >= POINTS // 4, f"only {killed} of {POINTS} were killed in time"


def test_kill_while_mounted(store, source, mount):
    """A mount of the same store does not notice that an importer dies."""
    write(source / "steady/file", "steady")
    store.add(source / "steady", "steady")
    for i in range(40):
        write(source / "more" / f"f{i}", pattern(1 << 20, i + 1))
    m = mount(store)
    for _ in range(5):
        process = import_parts(store, [source / "more"])
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.02)
        process.kill()
        finish(process)
        assert (m / "steady/file").read_text() == "steady"
        assert set(os.listdir(m)) <= {"steady", "more"}
    store.add(source / "more", "more")
    assert_same_tree(source / "more", m / "more")


def test_creation_cut_short(store, folder):
    """What is left of a creation has no format file yet, and an index of any content."""
    write(folder / "file", "content")
    for name in ("index", "packs", "files", "tmp"):
        (store.path / name).mkdir(parents=True)
    write(store.path / "index/data.mdb", bytes(8192))
    store.add(folder / "file")
    assert list(store.roots()) == ["file"]


def test_format_lost(store, folder):
    """A store with objects is not taken for one that is being made."""
    write(folder / "file", "content")
    store.add(folder / "file")
    (store.path / "format").unlink()
    result = store.cairn("import", folder / "file", check=False)
    assert result.code != 0 and "format" in result.err, result
    assert (store.path / "index/data.mdb").exists()
