"""Every kind of change is refused with EROFS, and changes nothing."""
import errno
import os
import socket

import pytest

from harness import expect_error, run, tree_entries


def make_socket(top):
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(top / "new"))


CHANGES = {
    "open for writing": lambda top: os.open(top / "hello", os.O_WRONLY),
    "open for both": lambda top: os.open(top / "hello", os.O_RDWR),
    "append": lambda top: os.open(top / "hello", os.O_WRONLY | os.O_APPEND),
    "open and truncate": lambda top: os.open(top / "hello", os.O_RDWR | os.O_TRUNC),
    "through a symlink": lambda top: os.open(top / "link", os.O_WRONLY),
    "create": lambda top: os.open(top / "new", os.O_CREAT | os.O_WRONLY),
    "create exclusively": lambda top: os.open(top / "new", os.O_CREAT | os.O_EXCL | os.O_RDWR),
    "create inside": lambda top: os.open(top / "sub/a/new", os.O_CREAT | os.O_WRONLY),
    "mkdir": lambda top: os.mkdir(top / "new"),
    "unlink a file": lambda top: os.unlink(top / "hello"),
    "unlink a symlink": lambda top: os.unlink(top / "link"),
    "rmdir": lambda top: os.rmdir(top / "nothing"),
    "rename": lambda top: os.rename(top / "hello", top / "new"),
    "rename over": lambda top: os.rename(top / "hello", top / "empty"),
    "chmod": lambda top: os.chmod(top / "hello", 0o600),
    "chmod a directory": lambda top: os.chmod(top / "sub", 0o700),
    "chown": lambda top: os.chown(top / "hello", os.getuid(), os.getgid()),
    "lchown": lambda top: os.lchown(top / "link", os.getuid(), os.getgid()),
    "utimens": lambda top: os.utime(top / "hello"),
    "set times": lambda top: os.utime(top / "hello", (1, 2)),
    "truncate": lambda top: os.truncate(top / "hello", 0),
    "extend": lambda top: os.truncate(top / "hello", 100),
    "setxattr": lambda top: os.setxattr(top / "hello", "user.x", b"y"),
    "removexattr": lambda top: os.removexattr(top / "hello",
                                              "user.tvix.castore.blob.digest"),
    "link": lambda top: os.link(top / "hello", top / "new"),
    "symlink": lambda top: os.symlink("target", top / "new"),
    "mkfifo": lambda top: os.mkfifo(top / "new"),
    "bind a socket": make_socket,
}


@pytest.mark.parametrize("options", [[], ["--xattr"]], ids=["plain", "xattr"])
def test_changes_are_refused(store, sample, mount, options):
    store.add(sample, "sample")
    m = mount(store, *options)
    before = tree_entries(m / "sample")
    failed = []
    for name, change in CHANGES.items():
        for place in ("sample", "sample/sub"):
            top = m / place
            if place != "sample" and not os.path.lexists(top / "link"):
                continue
            try:
                with expect_error(errno.EROFS):
                    change(top)
            except AssertionError as error:
                # What is not there (sub has fewer names) cannot be changed either.
                if place != "sample/sub" or "ENOENT" not in str(error):
                    failed.append((name, place, str(error)))
    assert not failed
    assert tree_entries(m / "sample") == before


def test_changes_of_the_root(store, sample, mount):
    store.add(sample, "sample")
    store.add(sample / "hello", "file")
    m = mount(store)
    for change in (
        lambda: os.mkdir(m / "new"),
        lambda: os.open(m / "new", os.O_CREAT | os.O_WRONLY),
        lambda: os.rmdir(m / "sample"),
        lambda: os.unlink(m / "file"),
        lambda: os.open(m / "file", os.O_WRONLY),
        lambda: os.rename(m / "file", m / "other"),
        lambda: os.chmod(m, 0o777),
    ):
        with expect_error(errno.EROFS):
            change()
    assert os.listdir(m) == ["file", "sample"]


@pytest.mark.root
def test_mknod(store, sample, mount):
    store.add(sample, "sample")
    m = mount(store)
    for kind in (0o020000, 0o060000):
        with expect_error(errno.EROFS):
            os.mknod(m / "sample/new", kind | 0o600, os.makedev(1, 3))


@pytest.mark.root
def test_remounting_writable_changes_nothing(store, sample, mount):
    """Where the kernel no longer refuses, the daemon does."""
    store.add(sample, "sample")
    m = mount(store)
    result = run(["mount", "-o", "remount,rw", m.path], check=False)
    if result.code != 0:
        return
    for change in (
        lambda: os.mkdir(m / "sample/new"),
        lambda: os.unlink(m / "sample/hello"),
        lambda: os.chmod(m / "sample/hello", 0o777),
        lambda: os.truncate(m / "sample/hello", 0),
        lambda: os.symlink("x", m / "sample/new"),
        lambda: os.rename(m / "sample/hello", m / "sample/new"),
        lambda: os.open(m / "sample/new", os.O_CREAT | os.O_WRONLY),
    ):
        with expect_error(errno.EROFS):
            change()
    assert (m / "sample/hello").read_text() == "hello\n"
