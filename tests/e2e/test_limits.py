"""What is short, small or deep: few descriptors, full and read-only disks, trees without end."""
import contextlib
import os
import pathlib
import tempfile

import pytest

from harness import (CAIRN, HELPERS, Store, assert_same_tree, cairn, live_mounts, loop_disk,
                     pattern, run, write)

DEPTH = 10_000
FEW = ["prlimit", "--nofile=64:64"]
LIMIT = 1


@pytest.fixture
def folder():
    """In memory where that can be: disks take their time with thousands of folders."""
    memory = pathlib.Path("/dev/shm")
    path = pathlib.Path(tempfile.mkdtemp(
        prefix="cairn-e2e-", dir=memory if memory.is_dir() else None))
    path.chmod(0o755)
    yield path
    run(["rm", "-rf", path])


@pytest.fixture
def deep(store):
    """A store with a tree that is deeper than any path may be long."""
    run([HELPERS / "deep_store", store.path, "deep", str(DEPTH)])
    return store


def bottom(depth):
    return "/".join(["deep", *["d"] * (depth - 1), "bottom"])


# ---- Depth ----

def test_reading_deep_trees(deep, folder):
    """Where there is no limit, it works."""
    assert deep.cairn("cat", bottom(DEPTH)).raw == b"bottom\n"
    assert deep.cairn("ls", bottom(DEPTH)).out.strip().endswith("/bottom")
    assert deep.cairn("fsck").code == 0
    other = Store(folder / "other")
    deep.cairn("push", "--to", other.path, "deep")
    deep.cairn("gc")
    assert other.cairn("cat", bottom(DEPTH)).raw == b"bottom\n"


@pytest.mark.parametrize("command", [("export", "deep", "out"), ("nar", "dump", "deep"),
                                     ("nar", "hash", "deep")])
def test_writing_deep_trees(deep, folder, command):
    """Where there is one, it is said."""
    result = deep.cairn(*command, check=False, cwd=folder)
    assert result.code == LIMIT, result
    assert "more than 2048 directories below each other" in result.err


def test_deep_trees_over_grpc(deep, serve, folder):
    address = serve(deep, "--list").address
    assert cairn("--store", address, "cat", bottom(DEPTH)).raw == b"bottom\n"
    pulled = Store(folder / "pulled")
    pulled.cairn("pull", "--from", address, "deep")
    assert pulled.cairn("cat", bottom(DEPTH)).raw == b"bottom\n"


def test_deep_mount(deep, mount):
    m = mount(deep)
    with contextlib.ExitStack() as stack:
        fd = os.open(m / "deep", os.O_RDONLY)
        for _ in range(DEPTH - 1):
            below = os.open("d", os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = below
        stack.callback(os.close, fd)
        with open(os.open("bottom", os.O_RDONLY, dir_fd=fd)) as file:
            assert file.read() == "bottom\n"


def test_import_of_a_deep_tree(store, source):
    fd = os.open(source, os.O_RDONLY)
    for _ in range(DEPTH):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    result = store.cairn("import", source, check=False)
    assert result.code == LIMIT, result
    assert "more than 2048 directories below each other" in result.err


# ---- Few descriptors ----

@pytest.fixture
def many(source):
    """More large files than there may be descriptors, and a way down of half as many."""
    for number in range(80):
        write(source / f"large/{number}", pattern(300_000, number))
    for number in range(300):
        write(source / f"small/{number % 50}/{number}", f"{number}\n")
    write(source / "/".join(f"d{number}" for number in range(30)) / "bottom", "bottom\n")
    return source


def few(store, *args):
    return run([*FEW, CAIRN, "--store", store, *args])


def test_few_descriptors(many, folder, serve, mount):
    local = folder / "store"
    few(local, "import", "--name", "tree", many)
    few(local, "export", "tree", folder / "out")
    assert_same_tree(many, folder / "out")
    few(local, "fsck", "--read-data")
    few(local, "push", "--to", folder / "other", "tree")
    few(local, "nar", "hash", "tree")
    address = serve(Store(local), "--list", prefix=FEW).address
    few(address, "export", "tree", folder / "again")
    assert_same_tree(many, folder / "again")
    few(folder / "pulled", "pull", "--from", address, "tree")
    assert_same_tree(many, mount(Store(local), prefix=FEW) / "tree")


# ---- Disks that take nothing ----

def assert_serves(store, source, folder, serve, mount, *args):
    """Everything that only reads."""
    assert set(store.roots()) == {"tree"}
    assert store.cairn("cat", "tree/large").raw == (source / "large").read_bytes()
    store.cairn("export", "tree", folder / "out")
    assert_same_tree(source, folder / "out")
    assert store.cairn("fsck", "--read-data").code == 0
    daemon, m = serve(store, "--list", *args), mount(store)
    cairn("--store", daemon.address, "export", "tree", folder / "far")
    assert_same_tree(source, folder / "far")
    assert_same_tree(source, m / "tree")
    # What follows may unmount the disk.
    assert m.stop() == 0 and daemon.stop() == 0


@pytest.fixture
def filled(source):
    """A tree with all that a store keeps in its own ways."""
    write(source / "large", pattern(2_000_000, 6))
    for number in range(50):
        write(source / f"sub/{number}", pattern(1000, number))
    return source


@pytest.mark.root
def test_full_disk(filled, folder, serve, mount):
    with loop_disk(folder, 48 << 20, "mkfs.ext4", "-q", "-F", "-m", "0") as disk:
        store = Store(disk / "store")
        store.add(filled, "tree")
        fill_up(disk)
        assert_serves(store, filled, folder, serve, mount)
        write(folder / "new/file", pattern(1_000_000, 9))
        result = store.cairn("import", "--name", "new", folder / "new", check=False)
        assert result.code > 0 and "No space left" in result.err, result
        assert set(store.roots()) == {"tree"}


def fill_up(disk):
    """To the last block."""
    with open(disk / "ballast", "wb", buffering=0) as file:
        size = 1 << 20
        while size >= 512:
            try:
                file.write(bytes(size))
            except OSError:
                size //= 2


@contextlib.contextmanager
def read_only(path):
    """The same folder, on a disk that takes no writes."""
    run(["mount", "--bind", path, path])
    live_mounts.add(str(path))
    try:
        run(["mount", "-o", "remount,bind,ro", path])
        yield
    finally:
        run(["umount", "-l", path])
        live_mounts.discard(str(path))


@pytest.mark.root
def test_read_only_disk(store, filled, folder, serve, mount):
    store.add(filled, "tree")
    with read_only(store.path):
        assert_serves(store, filled, folder, serve, mount, "--read-only")
        result = store.cairn("import", "--name", "x", filled, check=False)
        assert result.code > 0 and "Read-only file system" in result.err
