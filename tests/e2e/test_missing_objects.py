"""Stores with holes and with damage: errors that say what is wrong, and never wrong bytes."""
import errno
import os
import random

import pytest

from harness import HELPERS, expect_error, raw_getxattr, run, write


@pytest.fixture
def broken(store):
    """A store in which objects are missing; {"directory": digest, "file": digest}."""
    lines = run([HELPERS / "broken_store", store.path]).out.splitlines()
    return dict(line.split() for line in lines)


def open_and_read(path):
    """Either call may be the one that fails."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.read(fd, 10)
    finally:
        os.close(fd)


@pytest.mark.parametrize("place", ["", "tree/"])
def test_absent_directory(store, broken, mount, place):
    m = mount(store)
    path = m / f"{place}gone-directory"
    st = os.lstat(path)
    assert st.st_size == 7
    assert st.st_mode == 0o40555
    for _ in range(2):
        with expect_error(errno.EIO):
            os.listdir(path)
        with expect_error(errno.EIO):
            os.lstat(path / "name")
    assert os.lstat(path).st_size == 7
    assert broken["directory"] in m.log()


@pytest.mark.parametrize("place", ["", "tree/", "tree/inner/"])
def test_absent_blob(store, broken, mount, place):
    m = mount(store)
    path = m / f"{place}gone-file"
    st = os.lstat(path)
    assert st.st_size == 1234
    assert st.st_blocks == 3
    for _ in range(2):
        with expect_error(errno.EIO):
            open_and_read(path)
    assert os.lstat(path).st_size == 1234
    assert broken["file"] in m.log()


def test_the_rest_is_there(store, broken, mount):
    m = mount(store, "--xattr")
    assert os.listdir(m) == ["gone-directory", "gone-file", "tree"]
    assert os.listdir(m / "tree") == ["gone-directory", "gone-file", "here", "inner"]
    with expect_error(errno.EIO):
        os.listdir(m / "tree/gone-directory")
    with expect_error(errno.EIO):
        open_and_read(m / "tree/gone-file")
    assert (m / "tree/here").read_text() == "still here\n"
    assert (m / "tree/inner/here").read_text() == "still here\n"
    # Digests are known without the objects.
    name = "user.tvix.castore.directory.digest"
    assert raw_getxattr(m / "tree/gone-directory", name, 100)[1][:47].decode() == broken[
        "directory"]


def test_a_log_that_does_not_flood(store, broken, mount):
    """A hundred reads of one missing blob are not a hundred lines."""
    m = mount(store)
    for _ in range(100):
        with expect_error(errno.EIO):
            open_and_read(m / "tree/gone-file")
    assert 1 <= m.log().count(broken["file"]) <= 20


def test_other_commands(store, broken, folder):
    for args in (["ls", "tree/gone-directory"], ["ls", "gone-directory"], ["cat", "gone-file"],
                 ["cat", "tree/gone-file"], ["export", "tree", folder / "out"]):
        result = store.cairn(*args, check=False)
        assert result.code != 0, args
        assert broken["directory"] in result.err or broken["file"] in result.err, result
    assert store.cairn("cat", "tree/here").out == "still here\n"


def flip_byte(store, content):
    """Damages the stored copy of these bytes, wherever in the store they are."""
    for folder, _, names in os.walk(store.path):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.getsize(path) > 64 << 20:
                continue
            with open(path, "rb") as f:
                at = f.read().find(content)
            if at < 0:
                continue
            os.chmod(path, 0o600)
            with open(path, "r+b") as f:
                f.seek(at + len(content) // 2)
                f.write(bytes([content[len(content) // 2] ^ 0x20]))
            return
    raise AssertionError("the content is nowhere in the store")


@pytest.mark.parametrize("size", [100, 20_000, 300_000, 3_000_000])
def test_damaged_blob(store, source, mount, size):
    content = random.Random(size).randbytes(size)
    write(source / "bad", content)
    write(source / "good", content[::-1])
    store.add(source, "tree")
    flip_byte(store, content)
    m = mount(store, "--xattr")
    digest = os.getxattr(m / "tree/bad", "user.tvix.castore.blob.digest").decode()
    got = b""
    try:
        fd = os.open(m / "tree/bad", os.O_RDONLY)
        try:
            while piece := os.read(fd, 65536):
                got += piece
        finally:
            os.close(fd)
        raise AssertionError("damage was read as if it were nothing")
    except OSError as error:
        assert error.errno == errno.EIO
    assert content.startswith(got)
    assert digest in m.log()
    assert (m / "tree/good").read_bytes() == content[::-1]
    result = store.cairn("cat", "tree/bad", check=False)
    assert result.code != 0
    assert content.startswith(result.raw)
    assert digest in result.err


def test_damaged_directory(store, source, mount):
    """The damage is in a name, which the listing would show."""
    name = "a-name-that-is-nowhere-else"
    write(source / "sub" / name, "content")
    store.add(source, "tree")
    flip_byte(store, name.encode())
    m = mount(store)
    os.lstat(m / "tree")
    with expect_error(errno.EIO):
        os.listdir(m / "tree/sub")
    assert "b3:" in m.log()
