"""Without privileges: everything through fusermount3."""
import contextlib
import os
import shutil
import signal
import stat

import pytest

from harness import (AS_ROOT, BIG, Mount, as_user, assert_same_tree, executable_for_user,
                     force_unmount, give_to_user, make_sample, mount_entry, plain_user, run)

pytestmark = pytest.mark.fuse


class User:
    """The plain user's world: a home, a program, a store with a sample, a mount point."""

    def __init__(self, folder):
        self.home = folder / "home"
        self.home.mkdir()
        self.program = executable_for_user(folder)
        self.store_path = self.home / "store"
        self.mountpoint = self.home / "mnt"
        self.mountpoint.mkdir()
        make_sample(self.home / "sample")
        give_to_user(self.home)
        self.cairn("import", self.home / "sample")

    def run(self, *args, **kw):
        return run(as_user(*args, home=self.home), **kw)

    def cairn(self, *args, **kw):
        return self.run(self.program, "--store", self.store_path, *args, **kw)

    @property
    def path(self):
        return self.store_path


@pytest.fixture(scope="module", autouse=True)
def usual_system():
    """
    What every booted Debian has, and a bare container may lack: a /dev/fuse that everybody may
    open (by udev), and the /etc/mtab that fusermount3 reads.
    """
    if not AS_ROOT:
        yield
        return
    mode = stat.S_IMODE(os.stat("/dev/fuse").st_mode)
    os.chmod("/dev/fuse", 0o666)
    no_mtab = not os.path.lexists("/etc/mtab")
    if no_mtab:
        os.symlink("/proc/self/mounts", "/etc/mtab")
    yield
    if no_mtab:
        os.unlink("/etc/mtab")
    os.chmod("/dev/fuse", mode)


@pytest.fixture
def user(folder, sanitizer_folder):
    return User(folder)


@contextlib.contextmanager
def mounted(user, folder, *args):
    made = Mount(user, user.mountpoint, ["--list-root", *args], folder / "user.log",
                 prefix=as_user(home=user.home), program=user.program)
    made.wait_ready()
    yield made
    clean = made.clean_up()
    print(f"---- daemon of the plain user: exit {made.code}\n{made.log()}")
    assert clean


@pytest.fixture
def user_mount(user, folder):
    with mounted(user, folder) as made:
        yield made


def test_processors_may_sleep(user, folder):
    """Keeping them awake is for root; a mount goes without."""
    with mounted(user, folder, "--cpu-latency=low", "-v") as m:
        assert user.run("find", m, "-type", "f").code == 0
        assert "processors are not kept awake: /dev/cpu_dma_latency" in m.log()


def test_mount_and_read(user, user_mount):
    entry = mount_entry(user.mountpoint)
    assert entry["type"] == "fuse.cairn"
    assert {"ro", "nosuid", "nodev"} <= entry["options"]
    assert user.run("ls", user.mountpoint).out == "sample\n"
    assert user.run("cat", user.mountpoint / "sample/big").raw == BIG
    assert user.run("cat", user.mountpoint / "sample/link").out == "hello\n"
    user.run("diff", "-r", "--no-dereference", user.home / "sample", user.mountpoint / "sample")
    assert user.run("sh", user.mountpoint / "sample/run").out == "run\n"
    assert user.run("stat", "-c", "%u %g %a", user.mountpoint / "sample/run").out == "0 0 555\n"


@pytest.mark.root
def test_not_even_root_may_look(user, user_mount):
    """Without allow_other a mount is for its user alone."""
    with pytest.raises(PermissionError):
        os.listdir(user.mountpoint)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals(user, user_mount, number):
    assert user_mount.stop(number) == 0, user_mount.log()
    assert not user_mount.is_mounted()


@pytest.mark.parametrize("command", ["cairn", "fusermount3"])
def test_unmount(user, user_mount, command):
    if command == "cairn":
        user.cairn("umount", user.mountpoint)
    else:
        user.run("fusermount3", "-u", user.mountpoint)
    assert not user_mount.is_mounted()
    assert user_mount.wait_exit() == 0, user_mount.log()


def test_in_the_background(user):
    user.cairn("mount", "--list-root", user.mountpoint)
    try:
        assert user.run("ls", user.mountpoint).out == "sample\n"
        user.cairn("umount", user.mountpoint)
        assert mount_entry(user.mountpoint) is None
    finally:
        if mount_entry(user.mountpoint) is not None:
            force_unmount(user.mountpoint)


@pytest.mark.root
def test_a_place_that_is_not_theirs(user, folder):
    (folder / "mnt").mkdir()
    for place in (folder / "mnt", "/root"):
        result = user.cairn("mount", place, check=False)
        assert result.code != 0
        assert str(place) in result.err
        assert mount_entry(place) is None


def test_without_fusermount3(user, folder):
    """A helpful message when the helper program is missing."""
    if AS_ROOT or os.path.exists("/usr/bin/fusermount3"):
        (folder / "bin").mkdir()
        for tool in ("env", "setpriv"):
            (folder / "bin" / tool).symlink_to(shutil.which(tool))
        command = as_user("env", f"PATH={folder}/bin", user.program, "--store",
                          user.store_path, "mount", user.mountpoint, home=user.home)
        result = run(command, check=False)
        if result.code == 0:
            # It knows where the helper usually is, and needs no PATH for it.
            user.cairn("umount", user.mountpoint)
            return
        assert "fusermount3" in result.err


@pytest.mark.root
def test_allow_other_needs_permission(user):
    """Unless the administrator allows it, fusermount3 refuses; the message says what to do."""
    with open("/etc/fuse.conf", encoding="utf-8") as f:
        if any(line.strip() == "user_allow_other" for line in f):
            pytest.skip("user_allow_other is set in /etc/fuse.conf")
    result = user.cairn("mount", "--allow-other", user.mountpoint, check=False)
    assert result.code != 0
    assert "user_allow_other" in result.err
    assert mount_entry(user.mountpoint) is None


def test_default_store(user):
    """Without --store: below the home folder."""
    command = as_user(user.program, home=user.home)
    run([*command, "import", user.home / "sample/sub"], env={"HOME": str(user.home)})
    assert os.path.isdir(user.home / ".local/share/cairn")
    out = run([*command, "roots"], env={"HOME": str(user.home)}).out
    assert "sub" in out
    assert plain_user().pw_uid == os.lstat(user.home / ".local/share/cairn").st_uid or not AS_ROOT


def test_export(user):
    user.cairn("export", "sample", user.home / "out")
    assert_same_tree(user.home / "sample", user.home / "out")
