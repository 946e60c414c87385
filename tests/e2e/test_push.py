"""
Small files that are sent to the kernel before anybody asks for them: the content is right,
whoever reads in whatever order, and a sweep needs few requests.
"""
import os
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import wait_until, write

pytestmark = pytest.mark.fuse
FILES = 300


def content(i):
    """Sizes around those of pages, and some that are too large to be sent along."""
    size = [1, 100, 4095, 4096, 4097, 9000, 20000, 70000][i % 8]
    return (f"{i:03} of {FILES} ".encode() * (size // 9 + 1))[:size]


@pytest.fixture
def tree(store, source):
    for i in range(FILES):
        write(source / f"row/file{i:04}", content(i))
    for folder in range(20):
        for i in range(8):
            write(source / f"folders/{folder:02}/file{i}", content(folder * 8 + i))
    store.add(source, "tree")
    return source


def in_listing(folder):
    return [entry.path for entry in os.scandir(folder)]


def read_files(paths):
    found = {}
    for path in paths:
        with open(path, "rb") as f:
            found[os.path.basename(path)] = f.read()
    return found


def requests(m):
    """{name: count}, of a mount that has ended."""
    text = re.search(r"\d+ requests: (.*)", m.log())[1]
    counts = dict(re.findall(r"([A-Z_]+|files pushed) (\d+)", text))
    return {name: int(count) for name, count in counts.items()}


def right(row):
    return {f"file{i:04}": content(i) for i in range(FILES)} == row


@pytest.mark.parametrize("io", ["cached", pytest.param("passthrough", marks=pytest.mark.root)])
def test_sweep(store, tree, mount, io):
    m = mount(store, "-vv", f"--io={io}")
    paths = in_listing(m / "tree/row")
    assert right(read_files(paths))
    assert right(read_files(paths))
    assert m.stop() == 0
    counts = requests(m)
    large = FILES // 8 * 2
    assert counts["files pushed"] > FILES / 2
    assert counts["READ"] < large + FILES / 4


def test_folders(store, tree, mount):
    m = mount(store, "-vv")
    for folder in sorted(in_listing(m / "tree/folders")):
        number = int(os.path.basename(folder))
        found = read_files(in_listing(folder))
        assert found == {f"file{i}": content(number * 8 + i) for i in range(8)}
    assert m.stop() == 0
    assert requests(m)["files pushed"] > 60


def test_any_order(store, tree, mount):
    m = mount(store)
    paths = in_listing(m / "tree/row")
    assert right(read_files(paths[::-1]))
    folder = in_listing(m / "tree/folders/07")
    found = read_files(folder[i * 5 % 8] for i in range(8))
    assert found == {f"file{i}": content(56 + i) for i in range(8)}


def test_not_listed(store, tree, mount):
    """The kernel does not know the next file: nothing is lost but the attempt."""
    m = mount(store, "-vv")
    assert right(read_files(m / f"tree/row/file{i:04}" for i in range(FILES)))
    assert m.stop() == 0
    assert requests(m).get("files pushed", 0) < 10


def test_several_readers(store, tree, mount):
    """They meet at the same pages, which are locked while one of them is answered."""
    for _ in range(2):
        m = mount(store)
        paths = in_listing(m / "tree/row")
        orders = [paths, paths, paths, paths[::-1], paths[100:] + paths[:100]]
        with ThreadPoolExecutor(len(orders)) as pool:
            assert all(right(row) for row in pool.map(read_files, orders))
        assert m.stop() == 0


def test_one_thread(store, tree, mount):
    """Nobody could stand in for the only thread: nothing is pushed."""
    m = mount(store, "-vv", "--threads=1")
    assert right(read_files(in_listing(m / "tree/row")))
    assert m.stop() == 0
    assert "files pushed" not in requests(m)
    wait_until(lambda: not m.is_mounted(), "the end of the mount")
