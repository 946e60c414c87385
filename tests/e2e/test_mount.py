"""Mounting and unmounting, in every way there is."""
import errno
import os
import signal
import subprocess

import pytest

from harness import (BIG, Store, as_user, assert_same_tree, cairn, daemons_of, expect_error,
                     force_unmount, mount_entry, run, wait_until)


def test_shows_in_mountinfo(store, sample, mount):
    store.add(sample, "sample")
    m = mount(store)
    entry = mount_entry(m.path)
    assert entry["type"] == "fuse.cairn"
    assert {"ro", "nosuid", "nodev", "noatime"} <= entry["options"]
    assert os.listdir(m) == ["sample"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_unmounts(store, sample, mount, number):
    store.add(sample, "sample")
    m = mount(store)
    assert (m / "sample/hello").read_text() == "hello\n"
    assert m.stop(number) == 0, m.log()
    assert not m.is_mounted()
    assert os.listdir(m) == []


@pytest.mark.parametrize("command", [
    pytest.param(["umount"], marks=pytest.mark.root),
    ["fusermount3", "-u"],
    ["cairn", "umount"],
    ["cairn", "umount", "-l"],
])
def test_unmount_ends_the_daemon(store, sample, mount, command):
    store.add(sample, "sample")
    m = mount(store)
    os.lstat(m / "sample")
    if command[0] == "cairn":
        cairn(*command[1:], m)
    else:
        run([*command, m])
    assert not m.is_mounted()
    assert m.wait_exit() == 0, m.log()


def test_in_the_background(store, sample, folder):
    store.add(sample, "sample")
    path = folder / "mnt"
    path.mkdir()
    try:
        # The command returns although the daemon lives: it holds none of our descriptors.
        store.cairn("mount", "--list-root", path)
        assert mount_entry(path)["type"] == "fuse.cairn"
        assert os.listdir(path) == ["sample"]
        daemons = daemons_of(path)
        assert daemons
        for daemon in daemons:
            assert os.readlink(f"/proc/{daemon}/cwd") == "/"
        cairn("umount", path)
        assert mount_entry(path) is None
        wait_until(lambda: not daemons_of(path), "the daemon ends")
    finally:
        force_unmount(path)


def test_background_errors_reach_the_caller(store, sample, folder):
    store.add(sample, "sample")
    result = store.cairn("mount", folder / "missing", check=False)
    assert result.code != 0
    assert "missing" in result.err
    plain = folder / "plain"
    plain.write_text("")
    result = store.cairn("mount", plain, check=False)
    assert result.code != 0
    assert "plain" in result.err


@pytest.mark.fuse
def test_missing_store(folder):
    (folder / "mnt").mkdir()
    missing = Store(folder / "no-store")
    for option in ([], ["--foreground"]):
        result = missing.cairn("mount", *option, folder / "mnt", check=False)
        assert result.code != 0
        assert "no-store" in result.err
        assert mount_entry(folder / "mnt") is None
    assert not missing.path.exists()


@pytest.mark.parametrize("name", ["a b", "a,b", "a\\b", "tab\there", "line\nbreak", "ünïcode",
                                  "-dash", "a=b:c"])
def test_odd_mount_points(store, sample, mount, folder, name):
    store.add(sample, "sample")
    path = folder / name
    path.mkdir()
    m = mount(store, path=path)
    assert (m / "sample/hello").read_text() == "hello\n"
    cairn("umount", path)
    assert m.wait_exit() == 0


def test_odd_store_path(folder, sample, mount):
    odd = Store(folder / "st ore,with=odd\\name")
    odd.add(sample, "sample")
    m = mount(odd)
    assert (m / "sample/hello").read_text() == "hello\n"


def test_two_mounts_of_one_store(store, sample, mount):
    store.add(sample, "sample")
    first, second = mount(store), mount(store)
    assert (first / "sample/big").read_bytes() == (second / "sample/big").read_bytes() == BIG
    assert first.stop() == 0
    assert (second / "sample/hello").read_text() == "hello\n"


def test_remount_at_the_same_place(store, sample, mount):
    store.add(sample, "sample")
    first = mount(store)
    assert first.stop() == 0
    again = mount(store, path=first.path)
    assert (again / "sample/hello").read_text() == "hello\n"


def test_stop_while_in_use(store, sample, mount):
    """A working directory inside keeps a mount busy; the daemon ends all the same."""
    store.add(sample, "sample")
    m = mount(store)
    holder = subprocess.Popen(["cat"], stdin=subprocess.PIPE, cwd=m / "sample/sub")
    try:
        assert m.stop() == 0, m.log()
        assert not m.is_mounted()
    finally:
        holder.communicate(timeout=30)


def test_busy_unmount_is_refused(store, sample, mount):
    store.add(sample, "sample")
    m = mount(store)
    with open(m / "sample/hello", encoding="ascii") as f:
        result = cairn("umount", m, check=False)
        assert result.code != 0
        assert "in use" in result.err
        assert m.is_mounted()
        assert f.read() == "hello\n"
    cairn("umount", m)
    assert m.wait_exit() == 0


def test_lazy_unmount_serves_open_files(store, sample, mount):
    store.add(sample, "sample")
    m = mount(store)
    with open(m / "sample/big", "rb") as f:
        cairn("umount", "-l", m)
        assert not m.is_mounted()
        assert f.read() == BIG
    assert m.wait_exit() == 0


def test_umount_of_what_is_no_mount(folder):
    for path in (folder, folder / "missing"):
        result = cairn("umount", path, check=False)
        assert result.code != 0
        assert str(path) in result.err


def test_killed_daemon(store, sample, mount):
    store.add(sample, "sample")
    m = mount(store)
    m.process.kill()
    m.process.wait(30)
    with expect_error(errno.ENOTCONN):
        os.listdir(m)
    cairn("umount", m)
    assert not m.is_mounted()
    m.code = 0


def test_imports_appear(store, sample, mount):
    store.add(sample, "sample")
    m = mount(store)
    for _ in range(2):
        with expect_error(errno.ENOENT):
            os.lstat(m / "later")
    store.add(sample / "sub", "later")
    assert (m / "later/hello").read_text() == "hello\n"
    assert os.listdir(m) == ["later", "sample"]


def test_removed_roots_stay_readable_where_open(store, sample, mount):
    store.add(sample, "sample")
    m = mount(store)
    with open(m / "sample/hello", encoding="ascii") as f:
        store.cairn("roots", "remove", "sample")
        assert f.read() == "hello\n"


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_threads(store, sample, mount, threads):
    store.add(sample, "sample")
    m = mount(store, "--threads", str(threads))
    assert (m / "sample/big").read_bytes() == BIG
    assert sorted(os.listdir(m / "sample")) == sorted(os.listdir(sample))


def test_statfs(store, sample, mount):
    store.add(sample, "sample")
    m = mount(store)
    st = os.statvfs(m)
    assert st.f_namemax == 255
    assert st.f_bsize > 0
    assert st.f_flag & os.ST_RDONLY
    run(["df", m])


@pytest.mark.root
def test_other_users_only_when_allowed(store, sample, mount):
    store.add(sample, "sample")
    closed, opened = mount(store), mount(store, "--allow-other")
    result = run(as_user("cat", closed / "sample/hello"), check=False)
    assert result.code != 0
    assert "Permission denied" in result.err
    assert run(as_user("cat", opened / "sample/hello")).out == "hello\n"
    assert run(as_user("ls", opened / "sample/sub")).code == 0


def test_quiet_while_all_is_well(store, sample, mount):
    """A log without false alarms."""
    store.add(sample, "sample")
    m = mount(store)
    run(["find", m.path])
    assert m.stop() == 0
    assert "error" not in m.log().lower()


def test_one_tree(store, sample, mount):
    """A tree in the place of the named ones, also by its digest alone."""
    digest = store.add(sample, "tree")["digest"]
    for root in ("tree", digest):
        m = mount(store, f"--root={root}")
        assert_same_tree(sample, m.path)
        m.stop()
    m = mount(store, "--root=tree/sub", "--prefetch=none")
    assert_same_tree(sample / "sub", m.path)
    for args, text in (("--root=nothing", "nothing"), ("--root=tree/hello", "directory"),
                       ("--prefetch=some", "directories, all or none")):
        failed = store.cairn("mount", args, m.path, check=False)
        assert failed.code in (2, 3)
        assert text in failed.err
