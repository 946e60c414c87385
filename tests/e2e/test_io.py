"""How contents get out of a mount: through the program, or by the kernel from where they lie."""
import errno
import mmap
import os
import platform
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import (AS_ROOT, CAIRN, as_user, executable_for_user, expect_error, give_to_user,
                     pattern, run, wait_until, write)

LARGE = pattern(3 * 1024 * 1024 + 5)


def kernel_version():
    return tuple(int(n) for n in re.match(r"(\d+)\.(\d+)", platform.release()).groups())


pytestmark = pytest.mark.fuse
passthrough = [
    pytest.mark.root,
    pytest.mark.skipif(kernel_version() < (6, 9), reason="FUSE passthrough is of Linux 6.9"),
]


def needs_passthrough(test):
    for mark in passthrough:
        test = mark(test)
    return test


def plain_files(store):
    return [path for path in (store.path / "files").rglob("*") if path.is_file()]


def how(m):
    said = re.compile(r"large files are (.*)")
    # The mount is there a moment before the message is.
    wait_until(lambda: said.search(m.log()), "the message about the mount")
    return said.search(m.log())[1]


@pytest.fixture
def large(store, source):
    """A store whose blobs are all large but one."""
    for name in ("one", "two", "three"):
        write(source / name, LARGE + name.encode())
    write(source / "copy", LARGE + b"one")
    write(source / "small", "small")
    store.add(source, "tree")
    return source


@needs_passthrough
def test_contents(store, large, mount):
    m = mount(store, "--io=passthrough", "-v")
    assert how(m) == "passed through"
    for _ in range(2):
        for path in sorted(large.iterdir()):
            assert (m / "tree" / path.name).read_bytes() == path.read_bytes()


@needs_passthrough
def test_many_ways_at_once(store, large, mount):
    m = mount(store, "--io=passthrough")
    wanted = (large / "one").read_bytes()

    def mapped(name):
        with open(m / "tree" / name, "rb") as f:
            with mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as view:
                return bytes(view)

    def read(name):
        return (m / "tree" / name).read_bytes()

    def end(name):
        fd = os.open(m / "tree" / name, os.O_RDONLY)
        try:
            return os.pread(fd, 100, len(wanted) - 50)
        finally:
            os.close(fd)

    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            names = ["one", "copy"] * 4
            assert all(got == wanted for got in pool.map(mapped, names))
            assert all(got == wanted for got in pool.map(read, names))
            assert all(got == wanted[-50:] for got in pool.map(end, names))


@needs_passthrough
def test_stored_files_stay_as_they_are(store, large, mount):
    files = plain_files(store)
    assert len(files) == 3
    for path in files:
        # As relatime wants it before it changes an access time: older than the last change.
        os.utime(path, (1, os.stat(path).st_mtime))
    m = mount(store, "--io=passthrough")
    for path in large.iterdir():
        (m / "tree" / path.name).read_bytes()
    assert {os.stat(path).st_atime for path in files} == {1}
    with expect_error(errno.EROFS):
        os.open(m / "tree/one", os.O_RDWR)


@needs_passthrough
@pytest.mark.parametrize("at", [0, 1024 * 1024, len(LARGE) - 1])
def test_damage_is_not_passed_through(store, large, mount, at):
    for path in plain_files(store):
        path.chmod(0o600)
        with open(path, "r+b") as f:
            f.seek(at)
            byte = f.read(1)
            f.seek(at)
            f.write(bytes([byte[0] ^ 1]))
    m = mount(store, "--io=passthrough")
    for _ in range(2):
        with expect_error(errno.EIO):
            os.open(m / "tree/one", os.O_RDONLY)
    assert "is damaged" in m.log()
    assert (m / "tree/small").read_text() == "small"


@needs_passthrough
def test_removed_while_open(store, large, mount):
    """What is open stays readable, as on any file system; a new open sees what is left."""
    m = mount(store, "--io=passthrough")
    with open(m / "tree/one", "rb") as f:
        for path in plain_files(store):
            path.unlink()
        assert f.read() == LARGE + b"one"


@needs_passthrough
def test_unmounted_while_open(store, large, mount):
    m = mount(store, "--io=passthrough")
    with open(m / "tree/one", "rb") as f:
        assert m.stop() == 0
        # The kernel may go on reading or not, but what it gives is right.
        try:
            assert f.read(4096) == LARGE[:4096]
        except OSError as e:
            assert e.errno in (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO)


@needs_passthrough
def test_auto_looks_at_the_store(store, large, mount):
    assert how(mount(store, "-v", "--io=auto")) == "passed through"
    for number in range(20):
        write(large / f"small{number}", f"small {number}")
    store.add(large, "more")
    assert how(mount(store, "-v", "--io=auto")) == "cached"
    assert how(mount(store, "-v", "--io=cached")) == "cached"


@pytest.mark.skipif(not AS_ROOT, reason="needs root")
def test_a_plain_user_is_told(folder, store, sample, sanitizer_folder):
    store.add(sample, "sample")
    program = executable_for_user(folder)
    mountpoint = folder / "mnt"
    mountpoint.mkdir()
    for path in (store.path, mountpoint):
        give_to_user(path)
    result = run(as_user(program, "--store", store.path, "mount", "--io=passthrough", mountpoint,
                         home=folder), check=False)
    assert result.code == 7
    assert "CAP_SYS_ADMIN" in result.err


def test_wrong_choice(store, folder):
    result = run([CAIRN, "--store", store.path, "mount", "--io=fast", folder], check=False)
    assert result.code == 2
    assert "auto, cached or passthrough, not 'fast'" in result.err
