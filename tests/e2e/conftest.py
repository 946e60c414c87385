import faulthandler
import os
import pathlib
import re
import shutil
import signal
import tempfile
import threading

import pytest

import guest.image
import guest.machine
import harness
import rpc_daemon
import virtiofs_daemon

TEST_SECONDS = 240 * harness.SLOW


def pytest_configure(config):
    # Whoever starts the tests in the background may have had signals ignored: that is inherited.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    config.addinivalue_line("markers", "root: needs to run as root")
    config.addinivalue_line("markers", "fuse: needs /dev/fuse")
    if not harness.CAIRN.exists():
        raise pytest.UsageError(f"no program at {harness.CAIRN}: build first, or set CAIRN")


def fuse_fault():
    """Why nothing can be mounted here, or None."""
    if not os.path.exists("/dev/fuse"):
        return "no /dev/fuse"
    if not harness.AS_ROOT and shutil.which("fusermount3") is None:
        return "no fusermount3"
    return None


# Files go to processes whole, in this order: what takes longest must not be left for the end.
LONGEST = ("test_virtiofs_guest.py", "test_nix_corpus.py", "test_lazy_mount.py", "test_daemon.py",
           "test_nar.py", "test_real_tree.py", "test_stress.py", "test_older_kernel.py",
           "test_nix_paths.py", "test_fsck.py")


def place_in_order(item):
    return LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST)


def pytest_collection_modifyitems(config, items):
    items.sort(key=place_in_order)
    if harness.IO:
        # All that a way of reading can change.
        others = [item for item in items if "mount" not in item.fixturenames]
        items[:] = [item for item in items if "mount" in item.fixturenames]
        config.hook.pytest_deselected(items=others)
    fault = fuse_fault()
    guest_fault = guest.image.missing()
    for item in items:
        if item.get_closest_marker("root") and not harness.AS_ROOT:
            item.add_marker(pytest.mark.skip(reason="needs root"))
        if fault and (item.get_closest_marker("fuse") or "mount" in item.fixturenames):
            item.add_marker(pytest.mark.skip(reason=fault))
        if guest_fault and "boot" in item.fixturenames:
            item.add_marker(pytest.mark.skip(reason=guest_fault))


@pytest.fixture(autouse=True)
def watchdog():
    """No test hangs for ever: daemons and mounts go first, then the whole run."""
    timer = threading.Timer(TEST_SECONDS, harness.break_hangs)
    timer.daemon = True
    timer.start()
    faulthandler.dump_traceback_later(TEST_SECONDS + 60, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()
    timer.cancel()


@pytest.fixture(scope="session")
def sanitizer_folder():
    """Where sanitizers report, whichever process of a test they watch, also as another user."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="cairn-sanitizer-"))
    folder.chmod(0o1777)
    for kind in ("ASAN", "LSAN", "TSAN", "UBSAN"):
        options = [os.environ.get(f"{kind}_OPTIONS", ""), f"log_path={folder}/{kind}"]
        os.environ[f"{kind}_OPTIONS"] = ":".join(filter(None, options))
    yield folder
    shutil.rmtree(folder)


# The leak checker of a process looks at it from another one, and says this when a test kills it
# just then. It goes on; what it finds in a process that lives it reports as ever.
OF_A_KILLED_PROCESS = re.compile(r"^==\d+==Unable to get registers from thread \d+\.\n", re.M)


@pytest.fixture(autouse=True)
def no_sanitizer_report(sanitizer_folder):
    yield
    reports = []
    for path in sorted(sanitizer_folder.iterdir()):
        reports.append(OF_A_KILLED_PROCESS.sub("", path.read_text(errors="replace")))
        path.unlink()
    reports = list(filter(None, reports))
    assert not reports, "\n".join(reports)


@pytest.fixture
def folder():
    """A folder that other users can reach, unlike tmp_path; removed afterwards."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="cairn-e2e-"))
    path.chmod(0o755)
    yield path
    harness.remove_tree(path)


@pytest.fixture
def store(folder):
    return harness.Store(folder / "store")


@pytest.fixture
def source(folder):
    """An empty folder for a tree to import."""
    path = folder / "source"
    path.mkdir()
    return path


@pytest.fixture
def sample(source):
    harness.make_sample(source)
    return source


@pytest.fixture
def mount(folder, sanitizer_folder):
    """A factory of mounts: mount(store, options…, path=…) is ready when it returns."""
    mounts = []

    def make(store, *args, path=None, list_root=True, wait=True, **kw):
        number = len(mounts)
        if path is None:
            path = folder / f"mnt{number}"
            path.mkdir()
        options = [*args, *(["--list-root"] if list_root else [])]
        made = harness.Mount(store, path, options, folder / f"daemon{number}.log", **kw)
        mounts.append(made)
        if wait:
            made.wait_ready()
        return made

    yield make
    # The last first: it may lie over another one.
    harness.clean_up_daemons(mounts[::-1])


class VirtiofsDaemons:
    """A factory: it(store, options…) is a cairn virtiofs that listens when it returns."""

    def __init__(self, folder):
        self.folder = folder
        self.made = []

    def __call__(self, store, *args, list_root=True, socket=None, wait=True, **kw):
        number = len(self.made)
        options = [*args, *(["--list-root"] if list_root else [])]
        made = virtiofs_daemon.VirtiofsDaemon(
            store, socket or self.folder / f"socket{number}", options,
            self.folder / f"virtiofs{number}.log", **kw)
        self.made.append(made)
        if wait:
            made.wait_ready()
        return made


class RpcDaemons:
    """A factory: it(store, options…) is a cairn daemon that listens when it returns."""

    def __init__(self, folder):
        self.folder = folder
        self.made = []

    def __call__(self, store, *args, wait=True, port=None, socket_path=None, **kw):
        number = len(self.made)
        if port is None and socket_path is None:
            socket_path = self.folder / f"rpc{number}"
        made = rpc_daemon.RpcDaemon(store, self.folder / f"rpc{number}.log", *args, port=port,
                                    socket_path=socket_path, **kw)
        self.made.append(made)
        if wait:
            made.wait_ready()
        return made


class Guests:
    """A factory: it(daemon…) is a guest that has booted, with the tags fs0, fs1 and so on."""

    def __init__(self, folder):
        self.folder = folder
        self.made = []

    def __call__(self, *daemons, wait=True, **kw):
        folder = self.folder / f"guest{len(self.made)}"
        folder.mkdir()
        devices = [(f"fs{number}", daemon.socket) for number, daemon in enumerate(daemons)]
        made = guest.machine.Guest(folder, devices, slow=harness.SLOW, **kw)
        self.made.append(made)
        harness.live_processes.add(made.process)
        return made.wait_boot() if wait else made

    def clean_up(self):
        for made in self.made:
            made.kill()
            harness.live_processes.discard(made.process)
            print(made.log())


@pytest.fixture
def virtiofs(folder, sanitizer_folder):
    daemons = VirtiofsDaemons(folder)
    yield daemons
    harness.clean_up_daemons(daemons.made)


@pytest.fixture
def serve(folder, sanitizer_folder):
    daemons = RpcDaemons(folder)
    yield daemons
    harness.clean_up_daemons(daemons.made)


@pytest.fixture
def boot(folder, virtiofs):
    """Guests; they end before their daemons."""
    guests = Guests(folder)
    yield guests
    guests.clean_up()
