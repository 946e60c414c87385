"""Store paths as roots: of a mount with --nix, and as ROOT arguments."""
import errno
import os

import pytest

from harness import assert_same_tree, write
from nix_paths import StorePath


def expect_errno(number, call, *args):
    with pytest.raises(OSError) as caught:
        call(*args)
    assert caught.value.errno == number


@pytest.fixture
def path(store, sample):
    return StorePath(sample, "sample-1.0").put(store)


def test_mount(store, path, sample, mount):
    m = mount(store, "--nix")
    assert os.listdir(m.path) == [path.base]
    assert_same_tree(sample, m / path.base)
    # The names of trees are not there.
    store.add(sample, "named")
    expect_errno(errno.ENOENT, os.lstat, m / "named")


def test_kinds(store, path, sample, mount):
    tool = StorePath(write(sample.parent / "tool", "#!/bin/sh\n", 0o755), "tool").put(store)
    (sample.parent / "link").symlink_to(tool.path)
    link = StorePath(sample.parent / "link", "link").put(store)
    m = mount(store, "--nix")
    assert sorted(os.listdir(m.path)) == sorted([path.base, tool.base, link.base])
    assert os.access(m / tool.base, os.X_OK)
    assert (m / tool.base).read_text() == "#!/bin/sh\n"
    assert os.readlink(m / link.base) == tool.path


def test_names_that_are_no_paths(store, path, mount):
    m = mount(store, "--nix")
    hash_text, name = path.base.split("-", 1)
    for other in (f"{hash_text}-other", hash_text, f"{hash_text}-", name, "x", ".links",
                  f"{hash_text}-{name}.drv", "0" * 32 + f"-{name}", hash_text.upper() + f"-{name}"):
        expect_errno(errno.ENOENT, os.lstat, m / other)
    assert (m / path.base).is_dir()


def test_not_listed(store, path, mount):
    m = mount(store, "--nix", list_root=False)
    expect_errno(errno.EPERM, os.listdir, m.path)
    assert (m / path.base / "hello").read_text() == "hello\n"


def test_new_paths_appear(store, path, sample, mount):
    m = mount(store, "--nix")
    later = StorePath(sample / "sub", "later")
    expect_errno(errno.ENOENT, os.lstat, m / later.base)
    assert os.listdir(m.path) == [path.base]
    later.put(store)
    assert_same_tree(sample / "sub", m / later.base)
    assert sorted(os.listdir(m.path)) == sorted([path.base, later.base])


def test_store_without_paths(store, sample, mount):
    """Also the first path of a store appears in a mount that is there already."""
    store.add(sample, "named")
    m = mount(store, "--nix")
    assert os.listdir(m.path) == []
    path = StorePath(sample, "first").put(store)
    assert os.listdir(m.path) == [path.base]


def test_many_paths(store, folder, mount):
    """More than one reply can hold, in the order of their names."""
    paths = [StorePath(write(folder / f"trees/{i}", str(i)), f"{'long' * 50}-{i}").put(store)
             for i in range(40)]
    m = mount(store, "--nix")
    with os.scandir(m.path) as entries:
        names = [e.name for e in entries]
    assert names == sorted(p.base for p in paths)


@pytest.mark.parametrize("form", ["{base}", "/nix/store/{base}", "/nix/store/{base}/"])
def test_root_arguments(store, path, sample, folder, form):
    root = form.format(base=path.base)
    assert store.cairn("cat", f"{root}/hello").out == "hello\n"
    assert "hello" in store.cairn("ls", root).out
    store.cairn("export", root, folder / "out")
    assert_same_tree(sample, folder / "out")
    store.cairn("roots", "add", "copy", root)
    assert store.roots()["copy"]["kind"] == "directory"


def test_root_arguments_that_are_absent(store, path, sample):
    hash_text = path.base.split("-", 1)[0]
    store.add(sample, "named")
    for other in (f"{hash_text}-other", f"/nix/store/{hash_text}-other", "/nix/store/named",
                  f"/nix/store/{hash_text}", f"/gnu/store/{path.base}", "/nix/store/",
                  "/nix/store", f"/nix/store/{path.base}/missing"):
        result = store.cairn("ls", other, check=False)
        assert result.code in (2, 3), result
        assert result.out == ""


def test_names_go_first(store, path, sample):
    store.add(sample / "sub", path.base)
    named = store.cairn("ls", path.base).out
    assert named != store.cairn("ls", path.path).out
    assert named == store.cairn("ls", f"{path.path}/sub").out
