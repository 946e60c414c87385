"""Extended attributes: the digests of files and directories."""
import base64
import errno
import os

from harness import expect_error, raw_getxattr, raw_listxattr, write

DIRECTORY = ["user.tvix.castore.directory.digest", "user.snix.castore.directory.digest"]
FILE = ["user.tvix.castore.blob.digest", "user.snix.castore.blob.digest"]
EMPTY = "b3:rxNJufX5oaagQE3qNtzJSZvLJcmtwRK3zJqTyuQfMmI="


def test_values(store, sample, mount):
    store.add(write(sample / "empty-file"), "empty")
    digest = store.add(sample, "sample")["digest"]
    m = mount(store, "--xattr")
    assert sorted(os.listxattr(m / "sample")) == sorted(DIRECTORY)
    assert sorted(os.listxattr(m / "sample/hello")) == sorted(FILE)
    for name in DIRECTORY:
        assert os.getxattr(m / "sample", name).decode() == digest
    for name in FILE:
        assert os.getxattr(m / "empty", name).decode() == EMPTY
        assert os.getxattr(m / "sample/empty", name).decode() == EMPTY
        value = os.getxattr(m / "sample/hello", name).decode()
        assert value.startswith("b3:")
        assert len(base64.b64decode(value[3:])) == 32
        # Equal content, equal digest; the executable bit is not content.
        assert os.getxattr(m / "sample/sub/hello", name).decode() == value
        assert os.getxattr(m / "sample/run", name) == os.getxattr(m / "sample/twin", name)
        assert os.getxattr(m / "sample/run", name).decode() != value


def test_sizes(store, sample, mount):
    store.add(sample, "sample")
    m = mount(store, "--xattr")
    for path, names in ((m / "sample/sub", DIRECTORY), (m / "sample/hello", FILE)):
        for name in names:
            size, _ = raw_getxattr(path, name, 0)
            assert size == 47
            assert raw_getxattr(path, name, 47)[0] == 47
            count, buffer = raw_getxattr(path, name, 200)
            assert (count, buffer[47:]) == (47, bytes(153))
            for short in (1, 46):
                with expect_error(errno.ERANGE):
                    raw_getxattr(path, name, short)
        size, _ = raw_listxattr(path, 0)
        assert size == sum(len(name) + 1 for name in names)
        count, buffer = raw_listxattr(path, size)
        assert count == size
        assert sorted(buffer.decode().rstrip("\0").split("\0")) == sorted(names)
        for short in (1, size - 1):
            with expect_error(errno.ERANGE):
                raw_listxattr(path, short)


def test_unknown_names(store, sample, mount):
    store.add(sample, "sample")
    m = mount(store, "--xattr")
    for path, wrong in ((m / "sample", FILE), (m / "sample/hello", DIRECTORY)):
        for name in [*wrong, "user.tvix", "user.other", "user.tvix.castore.blob.digest2",
                     "user.TVIX.castore.blob.digest"]:
            with expect_error(errno.ENODATA):
                os.getxattr(path, name)
        for name in ("security.capability", "security.selinux", "trusted.x"):
            with expect_error(errno.ENODATA, errno.ENOTSUP):
                os.getxattr(path, name)


def test_nothing_on_symlinks_and_the_root(store, sample, mount):
    store.add(sample, "sample")
    m = mount(store, "--xattr")
    assert os.listxattr(m) == []
    assert os.listxattr(m / "sample/link", follow_symlinks=False) == []
    for name in DIRECTORY + FILE:
        with expect_error(errno.ENODATA):
            os.getxattr(m, name)
        # The kernel itself keeps user.* attributes away from symlinks.
        with expect_error(errno.ENODATA, errno.EPERM, errno.ENOTSUP):
            os.getxattr(m / "sample/link", name, follow_symlinks=False)


def test_not_supported_unless_asked(store, sample, mount):
    store.add(sample, "sample")
    m = mount(store)
    for path in (m / "sample", m / "sample/hello"):
        for _ in range(2):
            with expect_error(errno.ENOTSUP):
                os.getxattr(path, FILE[0])
            with expect_error(errno.ENOTSUP):
                raw_getxattr(path, DIRECTORY[0], 0)
            # The kernel's listxattr answers "none" or "not supported", never a name.
            try:
                assert os.listxattr(path) == []
            except OSError as error:
                assert error.errno == errno.ENOTSUP
