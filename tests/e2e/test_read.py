"""Contents: at the root, deep inside, through symlinks, in pieces and in parallel."""
import errno
import hashlib
import mmap
import os
import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import BIG, assert_same_tree, expect_error, pattern, run, write


def test_files_as_roots(store, source, mount):
    store.add(write(source / "small", "small\n"), "small")
    store.add(write(source / "large", BIG), "large")
    store.add(write(source / "none"), "none")
    m = mount(store)
    assert os.lstat(m / "small").st_size == 6
    assert (m / "small").read_bytes() == b"small\n"
    assert (m / "large").read_bytes() == BIG
    assert (m / "none").read_bytes() == b""


def test_symlinks_as_roots(store, source, mount):
    store.add(write(source / "file", "text"), "file")
    store.add(source, "tree")
    for name, target in (("good", "file"), ("dangling", "nothing"), ("inside", "tree/file")):
        (source / name).symlink_to(target)
        store.add(source / name, name)
    m = mount(store)
    assert os.readlink(m / "good") == "file"
    assert (m / "good").stat().st_size == 4
    assert (m / "good").read_text() == "text"
    assert (m / "inside").read_text() == "text"
    assert os.readlink(m / "dangling") == "nothing"
    with expect_error(errno.ENOENT):
        os.stat(m / "dangling")


def test_symlinks_inside(store, sample, mount):
    store.add(sample, "sample")
    top = mount(store) / "sample"
    assert os.readlink(top / "link") == "hello"
    assert (top / "link").stat().st_size == 6
    assert (top / "link").read_text() == "hello\n"
    assert (top / "to-sub/hello").read_text() == "hello\n"
    assert os.readlink(top / "dangling") == "nowhere/at/all"
    with expect_error(errno.ENOENT):
        os.stat(top / "dangling")
    # Twice: the second answer may come from the kernel's memory.
    assert os.readlink(top / "dangling") == "nowhere/at/all"


@pytest.mark.parametrize("length", [1, 59, 60, 255, 1000, 4094, 4095])
def test_long_targets(store, source, mount, length):
    target = "x" * length
    (source / "link").symlink_to(target)
    store.add(source, "tree")
    path = mount(store) / "tree/link"
    assert os.readlink(path) == target
    assert os.lstat(path).st_size == length


def test_deep_inside_without_listing(store, sample, mount):
    store.add(sample, "sample")
    m = mount(store, list_root=False)
    assert (m / "sample/sub/a/b/c/deep").read_text() == "deep\n"
    assert os.lstat(m / "sample/sub/a/b").st_size == 2
    assert os.listdir(m / "sample/sub/a/b/c") == ["deep"]


def test_whole_tree(store, sample, mount):
    store.add(sample, "sample")
    assert_same_tree(sample, mount(store) / "sample")


def test_wrong_kinds(store, sample, mount):
    store.add(sample, "sample")
    top = mount(store) / "sample"
    fd = os.open(top / "sub", os.O_RDONLY)
    try:
        with expect_error(errno.EISDIR):
            os.read(fd, 10)
    finally:
        os.close(fd)
    with expect_error(errno.EISDIR):
        os.open(top / "sub", os.O_WRONLY)
    with expect_error(errno.ELOOP):
        os.open(top / "link", os.O_RDONLY | os.O_NOFOLLOW)
    for name in ("hello", "sub"):
        with expect_error(errno.EINVAL):
            os.readlink(top / name)
    with expect_error(errno.ENOTDIR):
        os.lstat(top / "hello/below")
    with expect_error(errno.ENOTDIR):
        os.open(top / "hello", os.O_RDONLY | os.O_DIRECTORY)
    with expect_error(errno.ENOTDIR):
        os.listdir(top / "hello")


@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 16384, 65536, 131071, 131073, 1 << 20,
                                  (1 << 20) + 1, (4 << 20) + 5, (9 << 20) + 12345])
def test_sizes(store, source, mount, size):
    content = pattern(size, 3)
    write(source / "file", content)
    store.add(source, "tree")
    assert (mount(store) / "tree/file").read_bytes() == content


def test_random_ranges(store, source, mount):
    content = pattern((5 << 20) + 777, 5)
    write(source / "file", content)
    store.add(source, "tree")
    chance = random.Random(1)
    fd = os.open(mount(store) / "tree/file", os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        for _ in range(400):
            offset = chance.randrange(len(content) + 10_000)
            length = chance.choice([1, 7, 100, 4096, 5000, 70_000, 300_000])
            assert os.pread(fd, length, offset) == content[offset : offset + length]
        assert os.pread(fd, 10, len(content)) == b""
        assert os.pread(fd, 10, len(content) + (1 << 40)) == b""
        assert os.lseek(fd, 0, os.SEEK_END) == len(content)
    finally:
        os.close(fd)


def test_direct_reads(store, source, mount):
    """O_DIRECT, where the kernel's memory does not help."""
    content = pattern(300_000, 7)
    write(source / "file", content)
    store.add(source, "tree")
    fd = os.open(mount(store) / "tree/file", os.O_RDONLY | os.O_DIRECT)
    try:
        buffer = mmap.mmap(-1, 65536)
        got = b""
        while count := os.preadv(fd, [buffer], len(got)):
            got += buffer[:count]
        assert got == content
    finally:
        os.close(fd)


def test_memory_map(store, source, mount):
    content = pattern(2_000_003, 9)
    write(source / "file", content)
    store.add(source, "tree")
    with open(mount(store) / "tree/file", "rb") as f:
        with mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as view:
            assert view[1_999_990:] == content[1_999_990:]
            assert view[:] == content


@pytest.mark.parametrize("threads", [1, 8])
def test_parallel_readers(store, source, mount, threads):
    contents = {f"f{i}": pattern(200_000 + i * 4321, i + 1) for i in range(24)}
    for name, content in contents.items():
        write(source / f"d{len(name)}" / name, content)
    store.add(source, "tree")
    top = mount(store, f"--threads={threads}") / "tree"
    digests = {name: hashlib.sha256(content).digest() for name, content in contents.items()}

    def read_all(seed):
        names = list(contents)
        random.Random(seed).shuffle(names)
        for name in names:
            content = (top / f"d{len(name)}" / name).read_bytes()
            assert hashlib.sha256(content).digest() == digests[name], name
        return len(names)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read_all, range(8))) == [24] * 8


def test_parallel_processes(store, sample, mount):
    store.add(sample, "sample")
    top = mount(store) / "sample"
    script = f'for i in 1 2 3 4 5 6 7 8; do (cat "{top}"/sub/hello "{top}"/big | cksum) & done; wait'
    lines = run(["sh", "-c", script]).out.split("\n")[:-1]
    assert len(lines) == 8
    assert len(set(lines)) == 1
    assert int(lines[0].split()[1]) == len(BIG) + 6
