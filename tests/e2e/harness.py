"""What the end-to-end tests share: running the program, mounts, and comparing trees.

Environment: CAIRN is the program (default build/src/cli/cairn of this project), CAIRN_HELPERS
the folder of the helper programs (default beside it, ../../tests/e2e), CAIRN_TEST_SLOW a factor
for all timeouts (sanitizers are slow).
"""
import contextlib
import ctypes
import errno
import json
import os
import pathlib
import pwd
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time

import pytest

PROJECT = pathlib.Path(__file__).resolve().parents[2]
CAIRN = pathlib.Path(os.environ.get("CAIRN", PROJECT / "build/src/cli/cairn")).absolute()
HELPERS = pathlib.Path(os.environ.get("CAIRN_HELPERS", CAIRN.parents[2] / "tests/e2e"))
SLOW = float(os.environ.get("CAIRN_TEST_SLOW", "1"))
TIMEOUT = 60 * SLOW
AS_ROOT = os.geteuid() == 0

# Processes and mounts that are still alive: the watchdog ends them when a test hangs.
live_processes = set()
live_mounts = set()


class Result:
    """What a command printed and how it ended."""

    def __init__(self, args, code, out, err):
        self.args = args
        self.code = code
        self.raw = out
        self.out = out.decode("utf-8", "surrogateescape")
        self.err = err.decode("utf-8", "surrogateescape")

    def __repr__(self):
        return f"{self.args}: exit {self.code}\nstdout: {self.out}\nstderr: {self.err}"

    def json(self):
        """All JSON values of the output: one array, or one value after another."""
        decoder = json.JSONDecoder()
        values = []
        text = self.out.strip()
        while text:
            value, end = decoder.raw_decode(text)
            values += value if isinstance(value, list) else [value]
            text = text[end:].lstrip()
        return values


def environment(extra=None):
    ours = ("CAIRN_STORE", "CAIRN_CONFIG", "XDG_DATA_HOME", "XDG_CONFIG_HOME")
    env = {k: v for k, v in os.environ.items() if k not in ours}
    env.update(extra or {})
    return env


def start(args, **kw):
    process = subprocess.Popen([os.fspath(a) for a in args], **kw)
    live_processes.add(process)
    return process


def run(args, *, check=True, timeout=None, env=None, input=None, **kw):
    """Runs a command to its end; check wants exit code 0."""
    process = start(
        args,
        stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(env),
        **kw,
    )
    try:
        out, err = process.communicate(input, timeout=timeout or TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"hangs: {Result(args, None, out, err)}") from None
    finally:
        live_processes.discard(process)
    result = Result(args, process.returncode, out, err)
    if check:
        assert result.code == 0, result
    return result


def cairn(*args, **kw):
    return run([CAIRN, *args], **kw)


class Store:
    """A local store in a folder of its own, made by the first import."""

    def __init__(self, path):
        self.path = pathlib.Path(path)

    def cairn(self, *args, **kw):
        return cairn("--store", self.path, *args, **kw)

    def add(self, path, name=None, *args, **kw):
        """Imports one tree; returns what --json says about it."""
        options = ["--name", name] if name else []
        values = self.cairn("import", "--json", *options, *args, path, **kw).json()
        assert len(values) == 1, values
        return values[0]

    def roots(self):
        return {value["name"]: value for value in self.cairn("roots", "--json").json()}

    def disk_usage(self):
        """Bytes on disk of all files."""
        total = 0
        for folder, _, names in os.walk(self.path):
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    total += os.lstat(os.path.join(folder, name)).st_blocks * 512
        return total


def unescape(field):
    """A field of mountinfo, where white space and backslashes are octal."""
    out, i = bytearray(), 0
    while i < len(field):
        if field[i : i + 1] == b"\\":
            out.append(int(field[i + 1 : i + 4], 8))
            i += 4
        else:
            out += field[i : i + 1]
            i += 1
    return bytes(out)


def mount_entry(path):
    """{type, source, options, device} of the topmost mount at a path, or None."""
    path = os.fsencode(os.path.realpath(os.path.dirname(path)) + "/" + os.path.basename(path))
    found = None
    with open("/proc/self/mountinfo", "rb") as f:
        for line in f.read().splitlines():
            fields = line.split(b" ")
            if unescape(fields[4]) != path:
                continue
            dash = fields.index(b"-")
            found = {
                "type": os.fsdecode(unescape(fields[dash + 1])),
                "source": os.fsdecode(unescape(fields[dash + 2])),
                "options": set(os.fsdecode(fields[5]).split(",")),
                "device": os.fsdecode(fields[2]),
            }
    return found


def wait_mounts(condition, why, alive=lambda: True, timeout=None):
    """Waits until condition() is true, looking again whenever the table of mounts changes."""
    deadline = time.monotonic() + (timeout or TIMEOUT)
    with open("/proc/self/mountinfo", "rb") as table:
        poll = select.poll()
        poll.register(table, select.POLLERR | select.POLLPRI)
        while not condition():
            assert alive(), f"{why}: the daemon ended"
            assert time.monotonic() < deadline, f"{why}: not within the time limit"
            # Short, because the daemon may also end without any change of the table.
            poll.poll(50)


def wait_until(condition, why, timeout=None):
    """Waits for something that nothing announces."""
    deadline = time.monotonic() + (timeout or TIMEOUT)
    pause = 0.001
    while not condition():
        assert time.monotonic() < deadline, f"{why}: not within the time limit"
        time.sleep(pause)
        pause = min(pause * 2, 0.05)


def force_unmount(path):
    for command in (["umount", "-l", path], ["fusermount3", "-u", "-z", path]):
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                       timeout=TIMEOUT, check=False)
        if mount_entry(path) is None:
            return


# ---- Sockets ----

def connect(path):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(30)
    client.connect(str(path))
    return client


def listener(path, kind=socket.SOCK_STREAM):
    made = socket.socket(socket.AF_UNIX, kind)
    made.bind(str(path))
    if kind == socket.SOCK_STREAM:
        made.listen()
    return made


# Starts a program as a service manager does that has sockets for it; the first argument is one.
ACTIVATE = [sys.executable, "-c", """import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=sys.argv[2])
os.execv(sys.argv[3], sys.argv[3:])"""]


class Daemon:
    """A process that serves until it is told to stop."""

    def __init__(self, args, log, *, env=None, **kw):
        self.log_path = pathlib.Path(log)
        self.code = None
        with open(log, "wb") as f:
            self.process = start(args, stdin=subprocess.DEVNULL, stdout=f, stderr=f,
                                 env=environment(env), **kw)

    @property
    def pid(self):
        return self.process.pid

    def log(self):
        return self.log_path.read_text(errors="surrogateescape")

    def is_alive(self):
        return self.process.poll() is None

    def wait_logged(self, text):
        """Until it has said this."""
        def logged():
            # Asked first: what it said at its end is in the log by then.
            alive = self.is_alive()
            found = text in self.log()
            assert found or alive, f"the daemon ended: {self.log()}"
            return found

        wait_until(logged, text)

    def wait_exit(self):
        """The exit code."""
        if self.code is None:
            self.code = self.process.wait(TIMEOUT / 2)
            live_processes.discard(self.process)
        return self.code

    def stop(self, number=signal.SIGTERM):
        """Sends a signal and returns the exit code."""
        if self.is_alive():
            self.process.send_signal(number)
        return self.wait_exit()

    def clean_up(self):
        """Ends it if it has not ended; false when that took force."""
        clean = True
        if self.code is None:
            try:
                clean = self.stop() == 0
            except subprocess.TimeoutExpired:
                clean = False
                self.process.kill()
                self.wait_exit()
        return clean

    # ---- What the system says of it ----

    def status(self, name):
        """A field of /proc/PID/status."""
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            key, _, value = line.partition(":")
            if key == name:
                return value.strip()
        raise KeyError(name)

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def threads(self):
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def own_memory(self):
        """Bytes that are no files and not shared."""
        return int(self.status("RssAnon").split()[0]) * 1024


# How the mounts of root show file contents, for a run of all tests in that mode; see --io.
IO = os.environ.get("CAIRN_TEST_IO")


class Mount(Daemon):
    """A mount with its daemon in the foreground."""

    def __init__(self, store, path, args, log, prefix=(), program=None, env=None):
        self.path = pathlib.Path(path)
        live_mounts.add(str(path))
        if IO and AS_ROOT and not prefix and not any(str(a).startswith("--io") for a in args):
            args = [f"--io={IO}", *args]
        super().__init__([*prefix, program or CAIRN, "--store", store.path, "mount",
                          "--foreground", *args, path], log, env=env)

    def __truediv__(self, name):
        return self.path / name

    def __fspath__(self):
        return str(self.path)

    def is_mounted(self):
        return mount_entry(self.path) is not None

    def wait_ready(self):
        wait_mounts(self.is_mounted, "mounting", self.is_alive)

    def stop(self, number=signal.SIGTERM):
        code = super().stop(number)
        live_mounts.discard(str(self.path))
        return code

    def clean_up(self):
        """Ends whatever is left; false when that took force."""
        clean = super().clean_up()
        if self.is_mounted():
            clean = False
            force_unmount(self.path)
        live_mounts.discard(str(self.path))
        return clean


def daemons_of(path):
    """Process ids of the daemons that were started for a mount point."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                arguments = f.read().split(b"\0")
            with open(f"/proc/{pid}/stat", "rb") as f:
                zombie = f.read().rpartition(b")")[2].split()[0] == b"Z"
        except OSError:
            continue
        if b"mount" in arguments and os.fsencode(path) in arguments and not zombie:
            found.append(int(pid))
    return found


def clean_up_daemons(daemons):
    """Ends all of them, and shows what they logged: pytest prints it when the test failed."""
    clean = [made.clean_up() for made in daemons]
    for made in daemons:
        print(f"---- {made.log_path.name}: exit {made.code}\n{made.log()}")
    assert all(clean), "a daemon did not end cleanly"


def break_hangs():
    """For the watchdog: ends every daemon and every mount, so that blocked calls return."""
    for process in list(live_processes):
        with contextlib.suppress(OSError):
            process.kill()
    for path in list(live_mounts):
        force_unmount(path)


# ---- Trees ----

@contextlib.contextmanager
def loop_disk(folder, size, *mkfs):
    """A file system of its own, mounted; needs root."""
    image, path = folder / "image", folder / "disk"
    with open(image, "wb") as f:
        f.truncate(size)
    run([*mkfs, image])
    path.mkdir()
    result = run(["mount", "-o", "loop", image, path], check=False)
    if result.code != 0:
        pytest.skip(f"no loop devices: {result.err.strip()}")
    live_mounts.add(str(path))
    yield path
    run(["umount", path])
    live_mounts.discard(str(path))


def write(path, content=b"", mode=None):
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    if mode is not None:
        path.chmod(mode)
    return path


def pattern(size, seed=1):
    """Bytes that do not repeat at any power of two."""
    unit = b"".join((i * 2654435761 * seed & 0xFFFFFFFF).to_bytes(4, "little")
                    for i in range(4099))
    return (unit * (size // len(unit) + 1))[:size]


BIG = pattern(1024 * 1024 + 17)


def make_sample(top):
    """A small tree with everything in it; the tests know it by heart."""
    write(top / "hello", "hello\n", 0o644)
    write(top / "run", "#!/bin/sh\necho run\n", 0o755)
    write(top / "twin", "#!/bin/sh\necho run\n", 0o644)
    write(top / "empty")
    write(top / "big", BIG)
    (top / "link").symlink_to("hello")
    (top / "dangling").symlink_to("nowhere/at/all")
    (top / "to-sub").symlink_to("sub")
    write(top / "sub/hello", "hello\n")
    write(top / "sub/run", "#!/bin/sh\necho run\n", 0o755)
    (top / "sub/link").symlink_to("hello")
    write(top / "sub/a/b/c/deep", "deep\n")
    write(top / "sub/other/name", "deep\n")
    for name in ("one", "two"):
        write(top / name / "file", "in both\n")
        write(top / name / "below/leaf", "leaf\n")
    (top / "nothing").mkdir()


def remove_tree(path):
    if not AS_ROOT:
        for folder, _, _ in os.walk(path):
            os.chmod(folder, 0o700)
    shutil.rmtree(path)


def tree_entries(top):
    """{path below top: (kind, executable, content or target)} of a tree."""
    top = os.fsencode(top)
    found = {}

    def visit(relative):
        path = os.path.join(top, relative) if relative else top
        st = os.lstat(path)
        if stat.S_ISDIR(st.st_mode):
            found[relative] = ("directory",)
            for name in sorted(os.listdir(path)):
                visit(os.path.join(relative, name))
        elif stat.S_ISLNK(st.st_mode):
            found[relative] = ("symlink", os.readlink(path))
        else:
            with open(path, "rb") as f:
                found[relative] = ("file", bool(st.st_mode & 0o100), f.read())

    visit(b"")
    return found


def assert_same_tree(a, b):
    left, right = tree_entries(a), tree_entries(b)
    assert sorted(left) == sorted(right)
    for name, value in left.items():
        assert value == right[name], name


@contextlib.contextmanager
def expect_error(*numbers):
    """The block must fail with one of these errno values."""
    names = "/".join(errno.errorcode[n] for n in numbers)
    try:
        yield
    except OSError as error:
        got = errno.errorcode.get(error.errno, error.errno)
        assert error.errno in numbers, f"{got} instead of {names}"
    else:
        raise AssertionError(f"succeeded instead of failing with {names}")


# ---- System calls that Python does not offer as they are ----

libc = ctypes.CDLL(None, use_errno=True)
libc.getxattr.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t]
libc.getxattr.restype = ctypes.c_ssize_t
libc.lgetxattr.argtypes = libc.getxattr.argtypes
libc.lgetxattr.restype = ctypes.c_ssize_t
libc.listxattr.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t]
libc.listxattr.restype = ctypes.c_ssize_t
libc.llistxattr.argtypes = libc.listxattr.argtypes
libc.llistxattr.restype = ctypes.c_ssize_t
libc.syscall.restype = ctypes.c_long
SYS_GETDENTS64 = {"x86_64": 217, "aarch64": 61}[os.uname().machine]


def checked(value):
    if value < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return value


def raw_getxattr(path, name, size, follow=True):
    """(return value, buffer) of one getxattr call with a buffer of this size."""
    buffer = ctypes.create_string_buffer(size) if size else None
    call = libc.getxattr if follow else libc.lgetxattr
    count = checked(call(os.fsencode(path), os.fsencode(name), buffer, size))
    return count, buffer.raw if size else b""


def raw_listxattr(path, size, follow=True):
    buffer = ctypes.create_string_buffer(size) if size else None
    call = libc.listxattr if follow else libc.llistxattr
    count = checked(call(os.fsencode(path), buffer, size))
    return count, buffer.raw if size else b""


def getdents(fd, size):
    """One getdents64 call: [(inode, offset, type, name)], empty at the end."""
    buffer = ctypes.create_string_buffer(size)
    count = checked(libc.syscall(ctypes.c_long(SYS_GETDENTS64), ctypes.c_long(fd), buffer,
                                 ctypes.c_size_t(size)))
    entries, at, data = [], 0, buffer.raw
    while at < count:
        inode = int.from_bytes(data[at : at + 8], sys.byteorder)
        offset = int.from_bytes(data[at + 8 : at + 16], sys.byteorder)
        length = int.from_bytes(data[at + 16 : at + 18], sys.byteorder)
        name = data[at + 19 : at + length].split(b"\0", 1)[0]
        entries.append((inode, offset, data[at + 18], name))
        at += length
    return entries


def getdents_all(fd, size):
    entries = []
    while batch := getdents(fd, size):
        entries += batch
    return entries


# ---- Users ----

def plain_user():
    return pwd.getpwnam("nobody")


def as_user(*args, home="/nonexistent"):
    """The command line that runs args as the plain user (or as we are, when that is plain)."""
    if not AS_ROOT:
        return [*args]
    user = plain_user()
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups",
            "env", f"HOME={home}", *args]


def give_to_user(path):
    if AS_ROOT:
        user = plain_user()
        for folder, directories, files in os.walk(path):
            for name in [folder, *(os.path.join(folder, n) for n in directories + files)]:
                os.chown(name, user.pw_uid, user.pw_gid, follow_symlinks=False)


def executable_for_user(folder):
    """A copy of the program where the plain user may run it."""
    return pathlib.Path(shutil.copy2(CAIRN, pathlib.Path(folder) / "cairn"))
