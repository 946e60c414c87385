"""Directory listings: order, resumption, size, and who may list the root."""
import errno
import os

import pytest

from harness import (Store, expect_error, getdents, getdents_all, remove_tree, run, write)

COUNT = 100_000


@pytest.fixture(scope="module")
def huge_store(tmp_path_factory):
    """A directory of 100,000 entries (symlinks: cheap to make, and nothing to read)."""
    top = tmp_path_factory.mktemp("huge")
    (top / "tree/huge").mkdir(parents=True)
    fd = os.open(top / "tree/huge", os.O_RDONLY)
    for i in range(COUNT):
        os.symlink("t", f"entry-{i * 7919 % COUNT:06}", dir_fd=fd)
    os.close(fd)
    store = Store(top / "store")
    store.add(top / "tree", "tree")
    remove_tree(top / "tree")
    yield store
    remove_tree(top)


def raw_names(path, size=32768):
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return [entry[3] for entry in getdents_all(fd, size)]
    finally:
        os.close(fd)


def test_root_listing_only_when_asked(store, sample, mount):
    store.add(sample, "sample")
    m = mount(store, list_root=False)
    with expect_error(errno.EPERM):
        os.listdir(m)
    assert sorted(os.listdir(m / "sample")) == sorted(os.listdir(sample))
    assert (m / "sample/hello").read_text() == "hello\n"
    with expect_error(errno.ENOENT):
        os.lstat(m / "unknown")
    with expect_error(errno.EPERM):
        os.listdir(m)


def test_root_listing(store, source, mount):
    names = ["zebra", "apple", "Apple", "a", "ab", "a-b", "0"]
    for name in names:
        write(source / name / "file", name)
        store.add(source / name, name)
    store.add(write(source / "file", "f"), "m-file")
    m = mount(store)
    expected = sorted(os.fsencode(n) for n in [*names, "m-file"])
    assert raw_names(m) == [b".", b"..", *expected]
    # One entry a call, and again from the start.
    assert raw_names(m, 40) == [b".", b"..", *expected]
    assert len(os.listdir(m)) == 8


def test_empty_root(store, sample, mount):
    store.add(sample, "sample")
    store.cairn("roots", "remove", "sample")
    assert os.listdir(mount(store)) == []


def test_order_over_all_kinds(store, source, mount):
    for i, name in enumerate(["b", "a", "é", "Z", "_", "a.b", "ab", "a-b", "~", " ", "\x01"]):
        if i % 3 == 0:
            (source / name).mkdir()
        elif i % 3 == 1:
            write(source / name, name)
        else:
            (source / name).symlink_to("x")
    (source / os.fsdecode(b"\xff\xfe")).write_text("raw bytes")
    store.add(source, "tree")
    expected = sorted(os.listdir(os.fsencode(source)))
    assert raw_names(mount(store) / "tree") == [b".", b"..", *expected]


def test_types(store, sample, mount):
    store.add(sample, "sample")
    top = mount(store) / "sample"
    fd = os.open(top, os.O_RDONLY)
    try:
        types = {name: kind for _, _, kind, name in getdents_all(fd, 4096)}
    finally:
        os.close(fd)
    assert types.pop(b".") == types.pop(b"..") == 4
    for name, kind in types.items():
        path = sample / os.fsdecode(name)
        assert kind == (10 if path.is_symlink() else 4 if path.is_dir() else 8), name


def test_inode_numbers_of_a_listing(store, sample, mount):
    store.add(sample, "sample")
    top = mount(store) / "sample"
    fd = os.open(top, os.O_RDONLY)
    try:
        for inode, _, _, name in getdents_all(fd, 4096):
            if name not in (b".", b".."):
                assert inode == os.lstat(top / os.fsdecode(name)).st_ino, name
    finally:
        os.close(fd)


def test_deep(store, source, mount):
    deep = source.joinpath(*["d"] * 200)
    deep.mkdir(parents=True)
    write(deep / "bottom", "bottom")
    store.add(source, "tree")
    top = mount(store) / "tree"
    assert run(["find", top, "-name", "bottom"]).out.count("\n") == 1
    assert os.lstat(top).st_size == 201


@pytest.mark.parametrize("size", [1024, 32768])
def test_huge_directory(huge_store, mount, size):
    path = mount(huge_store) / "tree/huge"
    names = raw_names(path, size)
    assert len(names) == COUNT + 2
    assert names[:2] == [b".", b".."]
    assert names[2:] == [b"entry-%06d" % i for i in range(COUNT)]
    assert os.lstat(path).st_size == COUNT
    assert os.readlink(path / "entry-054321") == "t"


def test_rewind_and_seek(huge_store, mount):
    path = mount(huge_store) / "tree/huge"
    fd = os.open(path, os.O_RDONLY)
    try:
        first = [e for _ in range(20) for e in getdents(fd, 4096)]
        os.lseek(fd, 0, os.SEEK_SET)
        again = [e for _ in range(20) for e in getdents(fd, 4096)]
        assert first == again
        # Every offset resumes with the entry after it.
        for i in (0, 1, 2, 3, 57, len(first) - 2):
            os.lseek(fd, first[i][1], os.SEEK_SET)
            assert getdents(fd, 4096)[0] == first[i + 1]
    finally:
        os.close(fd)


def test_offsets_hold_for_another_handle(huge_store, mount):
    path = mount(huge_store) / "tree/huge"
    one, two = os.open(path, os.O_RDONLY), os.open(path, os.O_RDONLY)
    try:
        first = [e for _ in range(100) for e in getdents(one, 1024)]
        other = getdents(two, 4096)
        assert other == first[: len(other)]
        os.lseek(two, first[-1][1], os.SEEK_SET)
        assert getdents(two, 4096)[0] == getdents(one, 4096)[0]
    finally:
        os.close(one)
        os.close(two)


def test_two_handles_at_once(huge_store, mount):
    path = mount(huge_store) / "tree/huge"
    one, two = os.open(path, os.O_RDONLY), os.open(path, os.O_RDONLY)
    try:
        left, right = [], []
        for _ in range(50):
            left += getdents(one, 1024)
            right += getdents(two, 8192)
        left += getdents_all(one, 32768)
        right += getdents_all(two, 32768)
        assert left == right
        assert len(left) == COUNT + 2
    finally:
        os.close(one)
        os.close(two)


def test_root_resumes_by_name(store, source, mount):
    """Names that come while the root is being listed disturb nobody else's place."""
    write(source / "file", "x")
    for i in range(30):
        store.add(source, f"name-{i:02}")
    m = mount(store)
    fd = os.open(m, os.O_RDONLY)
    try:
        seen = [e[3] for _ in range(5) for e in getdents(fd, 64)]
        assert 3 < len(seen) < 30
        store.add(source, "aaa-before")
        store.add(source, "zzz-after")
        seen += [e[3] for e in getdents_all(fd, 64)]
    finally:
        os.close(fd)
    assert len(seen) == len(set(seen))
    assert {b"name-%02d" % i for i in range(30)} <= set(seen)


def test_exact_names_only(store, sample, mount):
    store.add(sample, "sample")
    m = mount(store)
    for name in ("s", "sampl", "sample2", "Sample", "SAMPLE", "sample ", "sample/hell",
                 "sample/hello2", "sample/Hello", "sample/sub/HELLO", "sample/sub/hell"):
        for _ in range(2):
            with expect_error(errno.ENOENT):
                os.lstat(m / name)
    with expect_error(errno.ENAMETOOLONG):
        os.lstat(m / ("n" * 256))
    with expect_error(errno.ENOENT):
        os.lstat(m / ("n" * 255))
