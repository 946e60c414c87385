"""A full disk: a clear error, nothing lost, and work goes on when there is room again."""
import random

import pytest

from harness import Store, assert_same_tree, loop_disk, pattern, remove_tree, write

pytestmark = pytest.mark.root


@pytest.fixture
def small_disk(folder):
    """An ext4 file system of 48 MiB."""
    with loop_disk(folder, 48 << 20, "mkfs.ext4", "-q", "-F", "-m", "0") as path:
        yield path


def make_trees(source):
    write(source / "first/file", pattern(100_000, 5))
    write(source / "first/large", pattern(2_000_000, 6))
    for i in range(300):
        # What a store cannot compress.
        write(source / "small" / f"f{i}", random.Random(i).randbytes(100_000))
    for i in range(5):
        write(source / "large" / f"f{i}", pattern(20 << 20, i + 1))


@pytest.mark.parametrize("kind", ["small", "large"])
def test_full_disk(small_disk, source, folder, kind):
    make_trees(source)
    store = Store(small_disk / "store")
    store.add(source / "first", "first")
    write(small_disk / "ballast", pattern(22 << 20))
    result = store.cairn("import", source / kind, check=False)
    assert result.code not in (0, 2)
    assert result.code > 0, "killed by a signal"
    assert "No space left" in result.err or "disk is full" in result.err
    assert result.out == ""
    # What was there before is still good, on a disk that is full.
    assert set(store.roots()) == {"first"}
    store.cairn("export", "first", folder / "out")
    assert_same_tree(source / "first", folder / "out")
    # And with some room again all goes on.
    (small_disk / "ballast").unlink()
    if kind == "large":
        remove_tree(source / "large")
        write(source / "large/f0", pattern(20 << 20, 1))
    store.add(source / kind, kind)
    remove_tree(folder / "out")
    store.cairn("export", kind, folder / "out")
    assert_same_tree(source / kind, folder / "out")


def test_no_room_at_all(small_disk, source, mount):
    """Not a single page: still an error message, and reading works."""
    make_trees(source)
    store = Store(small_disk / "store")
    store.add(source / "first", "first")
    with open(small_disk / "ballast", "wb", buffering=0) as f:
        size = 1 << 20
        while size >= 512:
            try:
                f.write(bytes(size))
            except OSError:
                size //= 2
    result = store.cairn("import", source / "small", check=False)
    assert result.code > 0, result
    assert "No space left" in result.err or "disk is full" in result.err
    m = mount(store)
    assert_same_tree(source / "first", m / "first")


def test_export_to_a_full_disk(small_disk, source, store):
    make_trees(source)
    store.add(source / "large", "large")
    result = store.cairn("export", "large", small_disk / "out", check=False)
    assert result.code > 0
    assert "No space left" in result.err or "disk is full" in result.err
    assert "incomplete" in result.err
