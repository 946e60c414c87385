"""Mounts of stores that are far away: what is fetched, and what goes on without the far end."""
import errno
import os
import shutil
import signal
import subprocess
import urllib.parse

import pytest

from harness import (BIG, CAIRN, SLOW, TIMEOUT, Daemon, Store, assert_same_tree, clean_up_daemons,
                     environment, expect_error, live_processes, pattern, start, wait_until, write)
from link import Link

# Long enough for nobody to wait for it.
NEVER = "100s"


class Far:
    """A store behind a daemon, and the way to it."""

    def __init__(self, store, folder):
        self.store, self.folder = store, folder
        self.daemons = []
        self.link = Link(folder / "link", folder / "daemon")
        self.start()

    def start(self):
        self.daemons.append(
            Daemon([CAIRN, "--store", self.store.path, "daemon",
                    f"--listen=unix:{self.folder}/daemon", "--list"],
                   self.folder / f"far{len(self.daemons)}.log"))
        self.daemons[-1].wait_logged("listening")

    def stop(self):
        self.daemons[-1].stop(signal.SIGKILL)

    def address(self, timeout=NEVER):
        return f"grpc+unix://{self.folder}/link?timeout={timeout}"

    def cached(self, near, timeout=NEVER):
        """The same, with copies of what was read in a store here."""
        far = urllib.parse.quote(self.address(timeout), safe="")
        return f"cache://?near={urllib.parse.quote(str(near), safe='')}&far={far}"

    def close(self):
        self.link.close()
        self.daemons[-1].stop()
        clean_up_daemons(d for d in self.daemons if d.code != -signal.SIGKILL)


@pytest.fixture
def far(store, sample, folder, sanitizer_folder):
    store.add(sample, "tree")
    made = Far(store, folder)
    yield made
    made.close()


@pytest.fixture
def near(folder):
    return folder / "near"


class Address:
    """In the place of a store, for the fixture of mounts."""

    def __init__(self, path):
        self.path = path


def test_same_tree(far, sample, mount):
    m = mount(Address(far.address()), "--list-root")
    assert os.listdir(m.path) == ["tree"]
    assert_same_tree(sample, m / "tree")


def test_tree_without_a_name(far, sample, mount):
    digest = far.store.roots()["tree"]["digest"]
    m = mount(Address(far.address()), f"--root={digest}")
    assert_same_tree(sample, m.path)


# ---- A far end that does not answer ----

def reader(path):
    """A process that reads a file."""
    return start(["cat", path], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                 env=environment())


def stalled_reader(far, path):
    """The same, waiting for a far end that is silent."""
    far.link.stall()
    before = far.link.sent
    process = reader(path)
    wait_until(lambda: far.link.sent > before, "the file is asked for")
    return process


def readable(path):
    try:
        path.read_bytes()
    except OSError as fault:
        assert fault.errno == errno.EIO
        return False
    return True


def end(process):
    process.wait(TIMEOUT)
    process.stderr.close()
    live_processes.discard(process)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_killed_while_waiting(far, mount, number):
    m = mount(Address(far.address()))
    os.stat(m / "tree/sub/a/b/c/deep")
    process = stalled_reader(far, m / "tree/big")
    process.send_signal(number)
    end(process)
    assert process.returncode == -number
    far.link.resume()
    assert (m / "tree/big").read_bytes() == BIG


def test_killed_while_looking_up(far, mount):
    """The names of directories too, and the replies that come late do no harm."""
    m = mount(Address(far.address()), "--prefetch=none")
    os.stat(m / "tree")
    process = stalled_reader(far, m / "tree/sub/a/b/c/deep")
    process.kill()
    end(process)
    far.link.resume()
    assert (m / "tree/sub/a/b/c/deep").read_text() == "deep\n"


def test_harmless_signals(far, mount):
    """A signal that does not end the process does not cut an answer short."""
    m = mount(Address(far.address()))
    os.stat(m / "tree/hello")
    process = stalled_reader(far, m / "tree/big")
    # Stopped and going on again.
    process.send_signal(signal.SIGSTOP)
    process.send_signal(signal.SIGCONT)
    far.link.resume()
    end(process)
    assert process.returncode == 0


def test_timeout(far, mount):
    m = mount(Address(far.address("1s")), "--prefetch=none")
    assert (m / "tree/hello").read_text() == "hello\n"
    far.link.stall()
    with expect_error(errno.EIO):
        (m / "tree/big").read_bytes()
    with expect_error(errno.EIO):
        os.stat(m / "tree/sub/a")
    with expect_error(errno.EIO):
        os.stat(m / "other")
    # The kernel asks once more when it could not read ahead: nobody waits for that as well.
    assert "it has just given no answer" in m.log()
    # A name that is not known to be absent is not absent for ever.
    far.link.resume()
    far.store.cairn("roots", "add", "other", "tree/sub")
    wait_until(lambda: os.path.exists(m / "other"), "the peer is asked again")
    assert_same_tree(m / "tree/sub", m / "other")
    assert (m / "tree/big").read_bytes() == BIG


# ---- With copies ----

def test_only_what_is_read(far, near, source, mount):
    for i in range(20):
        write(source / f"large{i}", pattern(1 << 20, i + 1))
    far.store.add(source, "files")
    m = mount(Address(far.cached(near)))
    before = far.link.received
    assert (m / "files/large7").read_bytes() == pattern(1 << 20, 8)
    assert far.link.received - before < 3 << 20
    m.stop()
    # From here on the file is at hand, also for the next mount.
    m = mount(Address(far.cached(near)))
    before = far.link.received
    assert (m / "files/large7").read_bytes() == pattern(1 << 20, 8)
    assert far.link.received - before < 1 << 16


def test_a_part_of_a_large_file(far, near, source, mount):
    content = pattern(64 << 20)
    write(source / "large", content)
    far.store.add(source, "files")
    m = mount(Address(far.cached(near)))
    with open(m / "files/large", "rb") as f:
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        before = far.link.received
        assert os.pread(f.fileno(), 4096, 32 << 20) == content[32 << 20:(32 << 20) + 4096]
        assert far.link.received - before < 8 << 20


def test_many_wait_and_the_rest_goes_on(far, near, sample, folder, mount):
    """More readers of what is far than there are threads, and the far end is silent."""
    for i in range(150):
        write(folder / f"files/f{i}", f"number {i}")
    far.store.add(folder / "files", "files")
    m = mount(Address(far.cached(near)))
    assert_same_tree(sample / "sub", m / "tree/sub")
    os.listdir(m / "files")
    m.stop()
    m = mount(Address(far.cached(near)))
    os.stat(m / "tree")
    os.listdir(m / "files")
    process = stalled_reader(far, m / "files/f0")
    readers = [process] + [reader(m / f"files/f{i}") for i in range(1, 150)]
    # Not in the kernel's cache, but here.
    assert_same_tree(sample / "sub", m / "tree/sub")
    assert all(r.poll() is None for r in readers)
    far.link.resume()
    for r in readers:
        end(r)
        assert r.returncode == 0


def test_without_the_far_end(far, near, sample, mount):
    m = mount(Address(far.cached(near, "1s")), "--prefetch=none")
    assert_same_tree(sample / "sub", m / "tree/sub")
    far.stop()
    assert_same_tree(sample / "sub", m / "tree/sub")
    m.stop()
    # Names are known from before.
    m = mount(Address(far.cached(near, "1s")), "--prefetch=none")
    assert_same_tree(sample / "sub", m / "tree/sub")
    with expect_error(errno.EIO):
        (m / "tree/one/file").read_bytes()
    far.start()
    wait_until(lambda: readable(m / "tree/one/file"), "the far end is found again")
    assert_same_tree(sample, m / "tree")


@pytest.mark.parametrize("mode", ["directories", "all"])
def test_prefetch(far, near, sample, mount, mode):
    """Looking into a tree brings all of its directories, or all of it, without being asked."""
    here = Store(near)
    digest = far.store.roots()["tree"]["digest"]
    args = {"directories": ["ls", "-R", digest], "all": ["export", digest, near.parent / "out"]}

    def has_come():
        m = mount(Address(far.cached(near)), f"--prefetch={mode}")
        assert (m / "tree/hello").read_text() == "hello\n"
        m.stop()
        shutil.rmtree(near.parent / "out", ignore_errors=True)
        return here.cairn(*args[mode], check=False).code == 0

    # What is under way is given up when a mount ends.
    wait_until(has_come, "the tree has been fetched")
    if mode == "all":
        assert_same_tree(sample, near.parent / "out")


def test_no_prefetch(far, near, mount):
    m = mount(Address(far.cached(near)), "--prefetch=none")
    assert (m / "tree/hello").read_text() == "hello\n"
    m.stop()
    digest = far.store.roots()["tree"]["digest"]
    assert "one" in Store(near).cairn("ls", digest).out
    assert Store(near).cairn("ls", f"{digest}/one", check=False).code != 0


def test_unmount_while_waiting(far, mount):
    """A mount ends although a far end is silent."""
    m = mount(Address(far.address("2s")))
    os.stat(m / "tree/big")
    process = stalled_reader(far, m / "tree/big")
    assert m.stop() == 0
    end(process)
    assert process.returncode != 0
