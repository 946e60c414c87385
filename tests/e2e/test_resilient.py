"""
Mounts that survive the death of their server: files stay open, reads and walks go on, nothing
they see is wrong. CAIRN_TEST_KILLS: how often the server is killed under load (default 10).
"""
import ctypes
import os
import random
import shutil
import signal
import sys
import threading

import pytest

from harness import (AS_ROOT, CAIRN, TIMEOUT, as_user, assert_same_tree, cairn, daemons_of,
                     libc, mount_entry, pattern, run, tree_entries, wait_until, write)

pytestmark = pytest.mark.fuse
KILLS = int(os.environ.get("CAIRN_TEST_KILLS", "10"))
OPEN_FILES = 100
MS_REMOUNT, MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOATIME = 32, 1, 2, 4, 1024


def servers(m):
    with open(f"/proc/{m.pid}/task/{m.pid}/children") as f:
        return [int(pid) for pid in f.read().split()]


def server(m):
    """The process that serves, once there is one."""
    wait_until(lambda: servers(m) or not m.is_alive(), "a server")
    return servers(m)[0]


def kill_server(m):
    """Returns when the process is gone."""
    pid = server(m)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: pid not in servers(m), "the end of the server")
    return pid


def forget_entries(m):
    """Makes the kernel forget what of the mount is not in use."""
    flags = MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOATIME
    assert libc.mount(b"none", os.fsencode(m.path), None, ctypes.c_ulong(flags), None) == 0


@pytest.fixture
def resilient(mount):
    """A factory of mounts whose holder is in the foreground."""
    def make(store, *args, **kw):
        m = mount(store, "--resilient", *args, wait=False, **kw)
        m.wait_logged("survives the death of its server")
        return m

    if not kernel_resends():
        pytest.skip("this kernel does not send requests again (Linux 6.9 and newer do)")
    return lambda store, *args, **kw: make(store, "-v", *args, **kw)


def kernel_resends():
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int(minor.split("-")[0])) >= (6, 9)


@pytest.fixture
def tree(store, source):
    """Files of both kinds to keep open, and many directories to walk."""
    for i in range(OPEN_FILES):
        write(source / f"open/file{i:03}", pattern(400_000 if i % 4 == 0 else 30_000, i + 1))
    for folder in range(40):
        for i in range(8):
            write(source / f"walk/{folder % 10}/{folder}/deep/file{i}", f"{folder} {i}")
    store.add(source, "tree")
    return source


class Load:
    """Threads that read and walk, until they are stopped or see something wrong."""

    def __init__(self, m, tree):
        self.m = m
        self.path = m.path / "tree"
        self.contents = {f"file{i:03}": (tree / f"open/file{i:03}").read_bytes()
                         for i in range(OPEN_FILES)}
        self.walked = tree_entries(tree / "walk")
        self.files = [(os.open(self.path / "open" / name, os.O_RDONLY), name)
                      for name in self.contents]
        self.stopping = False
        self.faults = []
        self.done = 0
        self.walks = 0
        self.changed = threading.Condition()
        jobs = [self.read_open] * 2 + [self.open_again, self.walk]
        self.threads = [threading.Thread(target=self.work, args=(job,)) for job in jobs]
        for thread in self.threads:
            thread.start()

    def work(self, job):
        try:
            while not self.stopping:
                job()
                with self.changed:
                    self.done += 1
                    self.changed.notify_all()
        except Exception as fault:  # pylint: disable=broad-except
            with self.changed:
                self.faults.append(fault)
                self.changed.notify_all()

    def read_open(self):
        """A piece of an open file, which the kernel has dropped."""
        fd, name = random.choice(self.files)
        content = self.contents[name]
        at = random.randrange(len(content))
        size = random.randrange(1, 70_000)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        assert os.pread(fd, size, at) == content[at : at + size], f"{name} at {at}"

    def open_again(self):
        name = random.choice(list(self.contents))
        with open(self.path / "open" / name, "rb") as f:
            assert f.read() == self.contents[name], name

    def walk(self):
        assert tree_entries(self.path / "walk") == self.walked
        self.walks += 1
        if AS_ROOT:
            forget_entries(self.m)

    def wait_progress(self, count):
        """Until so many things more are done. Raises what a thread has seen."""
        with self.changed:
            aim = self.done + count
            assert self.changed.wait_for(lambda: self.done >= aim or self.faults, TIMEOUT), (
                "nothing goes on")
            if self.faults:
                raise self.faults[0]

    def stop(self):
        self.stopping = True
        for thread in self.threads:
            thread.join(TIMEOUT)
            assert not thread.is_alive(), "a thread hangs"
        for fd, _ in self.files:
            os.close(fd)
        if self.faults:
            raise self.faults[0]


def memory(pid):
    """Bytes of a process that are no files, those of the session among them."""
    total = 0
    with open(f"/proc/{pid}/status") as f:
        for line in f:
            if line.startswith(("RssAnon:", "RssShmem:")):
                total += int(line.split()[1]) * 1024
    return total


def survive(m, tree):
    load = Load(m, tree)
    load.wait_progress(100)
    before = memory(server(m))
    killed = set()
    for _ in range(KILLS):
        killed.add(kill_server(m))
        load.wait_progress(random.choice([0, 1, random.randrange(200)]))
    last = server(m)
    load.wait_progress(200)
    load.stop()
    print(f"{KILLS} kills, {load.done} things done, {load.walks} walks; "
          f"memory {before} before, {memory(last)} after")
    assert last not in killed
    assert memory(last) < before * 2 + (16 << 20)
    assert_same_tree(m.path / "tree", tree)


@pytest.mark.parametrize("io", ["cached", pytest.param("passthrough", marks=pytest.mark.root)])
def test_kills_under_load(store, tree, resilient, io):
    m = resilient(store, f"--io={io}", "--restarts", str(KILLS))
    survive(m, tree)
    assert ("passed through" if io == "passthrough" else "large files are cached") in m.log()
    assert m.log().count("was killed by signal 9") == KILLS
    cairn("umount", m.path)
    assert m.wait_exit() == 0


def test_names_change_meanwhile(store, sample, resilient, folder):
    store.add(sample, "first")
    m = resilient(store)
    with open(m / "first/big", "rb") as f, open(m / "first/hello") as hello:
        inside = os.open(m / "first/sub/a", os.O_RDONLY)
        store.cairn("roots", "remove", "first")
        store.add(write(folder / "other/file", "another").parent, "first")
        kill_server(m)
        assert f.read() == (sample / "big").read_bytes()
        assert hello.read() == "hello\n"
        assert os.listdir(inside) == ["b"]
        os.close(inside)
    assert sorted(os.listdir(m.path)) == ["first"]


def test_one_tree_stays(store, sample, resilient, folder):
    """With --root, what is shown is what was shown before."""
    store.add(sample, "shown")
    m = resilient(store, "--root", "shown")
    store.add(write(folder / "other/file", "another").parent, "shown", "--replace")
    kill_server(m)
    assert_same_tree(m.path, sample)


def test_crash_loop_ends(store, sample, resilient):
    store.add(sample, "tree")
    m = resilient(store, "--restarts", "3")
    for _ in range(4):
        kill_server(m)
    assert m.wait_exit() == 1
    assert "has died 3 times within a minute" in m.log()
    assert mount_entry(m.path) is None
    m.code = 0


def test_store_is_away(store, sample, resilient, folder):
    """The mount waits for it, for as many attempts as servers may die."""
    store.add(sample, "tree")
    m = resilient(store, "--restarts", "1000")
    away = folder / "away"
    os.rename(store.path, away)
    kill_server(m)
    wait_until(lambda: m.log().count("is started again") >= 3, "some attempts")
    os.rename(away, store.path)
    assert_same_tree(m.path / "tree", sample)


@pytest.mark.parametrize("by", ["umount", "signal"])
def test_end_without_a_server(store, sample, resilient, folder, by):
    store.add(sample, "tree")
    m = resilient(store, "--restarts", "1000")
    os.rename(store.path, folder / "away")
    kill_server(m)
    wait_until(lambda: m.log().count("is started again") >= 2, "an attempt")
    if by == "umount":
        cairn("umount", m.path)
        assert m.wait_exit() == 0
    else:
        assert m.stop() == 0
    assert mount_entry(m.path) is None


def test_signals_end_both(store, sample, resilient):
    store.add(sample, "tree")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        m = resilient(store)
        pid = server(m)
        assert m.stop(number) == 0
        assert mount_entry(m.path) is None
        assert not os.path.exists(f"/proc/{pid}")


def test_without_the_holder(store, sample, resilient):
    store.add(sample, "tree")
    m = resilient(store)
    pid = server(m)
    m.process.kill()
    m.wait_exit()
    m.code = 0
    wait_until(lambda: "the holder of" in m.log(), "a word about it")
    assert_same_tree(m.path / "tree", sample)
    cairn("umount", m.path)
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"), "the end of the server")


def test_background_is_the_default(store, sample, folder):
    store.add(sample, "tree")
    path = folder / "mnt"
    path.mkdir()
    for option, expected in (([], 2), (["--no-resilient"], 1)):
        store.cairn("mount", *option, path)
        try:
            processes = daemons_of(path)
            assert len(processes) == (expected if kernel_resends() or not option else 1)
            with open(path / "tree/hello") as f:
                assert f.read() == "hello\n"
        finally:
            cairn("umount", path)
        wait_until(lambda: not daemons_of(path), "the end of the processes")


# ---- Upgrades ----

def program_of(pid):
    return os.readlink(f"/proc/{pid}/exe")


def test_upgrade_under_load(store, tree, resilient, folder):
    m = resilient(store)
    load = Load(m, tree)
    load.wait_progress(50)
    for number in range(2):
        program = shutil.copy2(CAIRN, folder / f"cairn{number}")
        result = run([program, "upgrade", "--json", m.path]).json()
        assert result == [{"mountpoint": str(m.path), "pid": server(m)}]
        assert program_of(server(m)) == str(program)
        load.wait_progress(50)
    # What dies now is started again as the new one.
    kill_server(m)
    load.wait_progress(50)
    assert program_of(server(m)) == str(folder / "cairn1")
    load.stop()
    assert cairn("upgrade", m.path).out == f"{m.path}\n"
    assert_same_tree(m.path / "tree", tree)


def test_upgrade_needs_a_holder(store, sample, mount, folder):
    store.add(sample, "tree")
    m = mount(store)
    result = cairn("upgrade", m.path, check=False)
    assert result.code == 1 and "it has no holder" in result.err
    result = cairn("upgrade", folder, check=False)
    assert result.code == 3 and "nothing is mounted" in result.err
    assert cairn("upgrade", check=False).code == 2


def holder_sockets(m):
    device = mount_entry(m.path)["device"]
    with open("/proc/net/unix") as f:
        names = [line.split(" ")[-1].strip() for line in f]
    # Connections have the name of what they were made to.
    return {name[1:] for name in names if name.startswith(f"@cairn-mount/{device}/")}


# Sends a request with an open program to a holder, and prints what comes back.
ASK = """import array, socket, struct, sys
client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
client.settimeout(60)
client.connect(b"\\0" + sys.argv[1].encode())
with open(sys.argv[2], "rb") as program:
    rights = array.array("i", [program.fileno()])
    try:
        client.sendmsg([struct.pack("=II", int(sys.argv[3]), 0)],
                       [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        answer = client.recv(5000)
    except OSError:
        answer = b""
print(answer[8:].decode() if answer else "nobody")
"""
UPGRADE = 16


def ask(m, program, kind=UPGRADE, prefix=()):
    name, = holder_sockets(m)
    return run([*prefix, sys.executable, "-c", ASK, name, program, str(kind)]).out


def test_programs_that_cannot(store, sample, resilient, folder):
    """They are refused, and the one before goes on."""
    store.add(sample, "tree")
    m = resilient(store)
    pid = server(m)
    with open(m / "tree/big", "rb") as f:
        assert "ended with exit code 1" in ask(m, "/bin/false")
        assert "ended with exit code" in ask(m, write(folder / "none", "no program"))
        assert "another version" in ask(m, "/bin/false", kind=1)
        assert server(m) == pid
        assert f.read() == (sample / "big").read_bytes()


@pytest.mark.root
def test_others_may_not_upgrade(store, sample, resilient):
    store.add(sample, "tree")
    m = resilient(store)
    pid = server(m)
    assert ask(m, "/bin/false", prefix=as_user()) == "nobody\n"
    assert server(m) == pid
    assert_same_tree(m.path / "tree", sample)
