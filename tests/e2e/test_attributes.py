"""stat: exact attributes of everything."""
import os
import stat

import pytest

from harness import BIG, run, write


def check_common(st):
    assert (st.st_uid, st.st_gid) == (0, 0)
    assert (st.st_atime_ns, st.st_mtime_ns, st.st_ctime_ns) == (0, 0, 0)
    assert st.st_nlink >= 1
    assert st.st_ino > 1
    assert st.st_blksize >= 512


def check_file(path, size, mode):
    st = os.lstat(path)
    check_common(st)
    assert stat.S_ISREG(st.st_mode)
    assert st.st_mode & 0o7777 == mode
    assert st.st_size == size
    assert st.st_blocks == (size + 511) // 512
    assert st.st_nlink == 1


def check_directory(path, size):
    st = os.lstat(path)
    check_common(st)
    assert stat.S_ISDIR(st.st_mode)
    assert st.st_mode & 0o7777 == 0o555
    assert st.st_size == size


def tree_size(path):
    """Entries, and those of all directories below."""
    return sum(1 + (tree_size(e.path) if e.is_dir(follow_symlinks=False) else 0)
               for e in os.scandir(path))


def test_files(store, sample, mount):
    store.add(sample, "sample")
    top = mount(store) / "sample"
    check_file(top / "hello", 6, 0o444)
    check_file(top / "run", len("#!/bin/sh\necho run\n"), 0o555)
    check_file(top / "empty", 0, 0o444)
    check_file(top / "big", len(BIG), 0o444)


def test_symlinks(store, sample, mount):
    store.add(sample, "sample")
    top = mount(store) / "sample"
    for name, target in (("link", "hello"), ("dangling", "nowhere/at/all"), ("to-sub", "sub")):
        st = os.lstat(top / name)
        check_common(st)
        assert stat.S_ISLNK(st.st_mode)
        assert st.st_mode & 0o7777 == 0o444
        assert st.st_size == len(target)


def test_directory_sizes(store, sample, mount):
    """Known before the children are, and unchanged afterwards."""
    store.add(sample, "sample")
    top = mount(store) / "sample"
    check_directory(top, tree_size(sample))
    check_directory(top / "sub", tree_size(sample / "sub"))
    check_directory(top / "nothing", 0)
    run(["find", top])
    check_directory(top, tree_size(sample))
    check_directory(top / "sub", tree_size(sample / "sub"))


def test_root_directory(store, sample, mount):
    store.add(sample, "sample")
    st = os.lstat(mount(store))
    assert st.st_ino == 1
    assert st.st_mode == stat.S_IFDIR | 0o555
    assert (st.st_uid, st.st_gid) == (0, 0)
    assert (st.st_mtime_ns, st.st_ctime_ns, st.st_atime_ns) == (0, 0, 0)
    assert st.st_nlink >= 1


def test_listing_gives_the_same_attributes(store, sample, mount):
    """A listing may fill attributes in; they are those of a single stat on a fresh mount."""
    store.add(sample, "sample")
    listed, single = mount(store) / "sample", mount(store) / "sample"
    by_listing = {e.name: e.stat(follow_symlinks=False) for e in os.scandir(listed)}
    assert sorted(by_listing) == sorted(os.listdir(sample))
    for name, st in by_listing.items():
        other = os.lstat(single / name)
        for field in ("st_mode", "st_ino", "st_nlink", "st_size", "st_blocks", "st_mtime_ns"):
            assert getattr(st, field) == getattr(other, field), (name, field)


def test_modes_of_the_source(store, source, mount):
    """Only the owner's execute bit counts."""
    for mode in (0o400, 0o444, 0o600, 0o644, 0o666, 0o500, 0o555, 0o700, 0o755, 0o777):
        write(source / f"{mode:o}", "content", mode)
    store.add(source, "modes")
    top = mount(store) / "modes"
    for name in os.listdir(source):
        expected = 0o555 if int(name, 8) & 0o100 else 0o444
        assert os.lstat(top / name).st_mode & 0o7777 == expected, name


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 4095, 4096, 4097, 1 << 20])
def test_blocks(store, source, mount, size):
    write(source / "file", b"x" * size)
    store.add(source, "tree")
    check_file(mount(store) / "tree/file", size, 0o444)


def test_du_tells_the_truth(store, source, mount):
    sizes = [0, 1, 1000, 5000, 100_000, 3_000_000]
    for i, size in enumerate(sizes):
        write(source / f"d{i}" / "file", bytes([i]) * size)
    store.add(source, "tree")
    top = mount(store) / "tree"
    blocks = sum((size + 511) // 512 for size in sizes)
    assert run(["du", "-s", "--block-size=512", top]).out.split()[0] == str(blocks)
    assert run(["find", top, "-size", "+1000k"]).out.split() == [str(top / "d5/file")]


def test_execute(store, sample, mount):
    store.add(sample, "sample")
    top = mount(store) / "sample"
    assert run([top / "run"]).out == "run\n"
    assert os.access(top / "run", os.X_OK)
    assert not os.access(top / "hello", os.X_OK)
    assert not os.access(top / "hello", os.W_OK)
