"""Copying trees between stores: push and pull."""
import re
import signal
import subprocess

import pytest

from harness import (CAIRN, TIMEOUT, Daemon, Store, assert_same_tree, clean_up_daemons, environment,
                     live_processes, pattern, start, wait_until, write)
from nix_paths import StorePath


@pytest.fixture
def other(folder):
    """A second store."""
    return Store(folder / "other")


def push(store, other, *args, **kw):
    return store.cairn("push", "--to", other.path, *args, **kw)


def pull(store, other, *args, **kw):
    return store.cairn("pull", "--from", other.path, *args, **kw)


def counts(result):
    """(copied, there already, objects, objects there) of the summary."""
    match = re.fullmatch(r"(\d+) pu\w+, (\d+) were there already: (\d+) objects copied, [^;]+; "
                         r"(\d+) objects were there\n", result.out)
    assert match, result
    return tuple(map(int, match.groups()))


def assert_has(store, name, tree, folder):
    out = folder / f"out-{store.path.name}-{name}"
    store.cairn("export", name, out)
    assert_same_tree(tree, out)


def test_push_and_pull(store, other, sample, folder):
    store.add(sample, "tree")
    copied, there, objects, present = counts(push(store, other, "tree"))
    assert (copied, there, present) == (1, 0, 0)
    assert objects > 5
    assert other.roots() == store.roots()
    assert_has(other, "tree", sample, folder)
    # Once more: the name vouches for it; with --check every object is asked for.
    assert counts(push(store, other, "tree")) == (0, 1, 0, 0)
    assert counts(push(store, other, "tree", "--check")) == (1, 0, 0, objects)
    third = Store(folder / "third")
    assert counts(pull(third, other, "tree")) == (1, 0, objects, 0)
    assert_has(third, "tree", sample, folder)


def test_only_what_is_missing(store, other, sample):
    store.add(sample, "tree")
    push(store, other, "tree")
    write(sample / "sub/a/new", "new\n")
    store.add(sample, "tree", "--replace")
    failed = push(store, other, "tree", check=False)
    assert failed.code == 6
    assert "--replace" in failed.err
    # The file, and the directories above it.
    copied, there, objects, present = counts(push(store, other, "tree", "--replace"))
    assert (copied, there, objects) == (1, 0, 4)
    assert present > 5
    assert other.roots() == store.roots()


def test_all(store, other, sample, folder):
    for name in ("sub", "hello", "link", "one"):
        store.add(sample / name, name)
    path = StorePath(sample / "sub", "path").put(store)
    assert counts(push(store, other, "--all"))[:2] == (5, 0)
    assert other.roots() == store.roots()
    assert other.cairn("nix", "verify", "--all", "--no-trust").code == 0
    values = pull(Store(folder / "third"), other, "--all", "--json").json()
    assert [v.get("name") for v in values] == ["hello", "link", "one", "sub", None]
    assert values[4]["path"] == path.path
    assert all(v["copied"] for v in values)
    assert push(store, other, "--all", "--json").json()[0]["copied"] is False


def test_names(store, other, sample):
    digest = store.add(sample, "tree")["digest"]
    values = push(store, other, "tree", "--as", "elsewhere", "--json").json()
    assert [v["name"] for v in values] == ["elsewhere"]
    assert other.roots()["elsewhere"]["digest"] == digest
    push(store, other, "tree/sub", "--as", "sub")
    push(store, other, "tree/hello", "--as", "file")
    assert other.roots()["file"]["kind"] == "file"
    # Without a name there is the tree alone.
    third = Store(other.path.parent / "third")
    assert "name" not in pull(third, other, digest, "--json").json()[0]
    assert third.roots() == {}
    assert third.cairn("cat", f"{digest}/hello").out == "hello\n"


def test_store_paths(store, other, sample):
    library = StorePath(sample / "sub", "library").put(store)
    tool = StorePath(write(sample / "tool", f"{library.path}\n", 0o755), "tool", [library])
    tool.put(store)
    values = push(store, other, tool.path, "--json").json()
    # What it refers to comes first.
    assert [v["path"] for v in values] == [library.path, tool.path]
    assert other.roots() == {}
    assert other.cairn("nix", "verify", "--all", "--no-trust").code == 0
    assert counts(push(store, other, tool.base)) == (0, 2, 0, 0)
    third = Store(other.path.parent / "third")
    assert counts(pull(third, other, tool.base))[:2] == (2, 0)
    assert third.cairn("cat", tool.path).out == f"{library.path}\n"


def test_wrong_nar_hash(store, other, sample):
    """What is pulled has the hashes that its path infos say."""
    path = StorePath(sample / "sub", "path").put(store, sha256=bytes(32))
    failed = pull(other, store, path.path, check=False)
    assert failed.code == 4
    assert path.path in failed.err
    assert other.cairn("nix", "path-info", path.path, check=False).code == 3


def test_faults(store, other, sample, folder):
    store.add(sample, "tree")
    assert push(store, other, "nothing", check=False).code == 3
    assert push(store, other, "b3:" + "A" * 43 + "=", check=False).code == 3
    assert pull(store, Store(folder / "nowhere"), "tree", check=False).code == 3
    for args in (["tree"], ["--to", other.path], ["--to", other.path, "--all", "tree"],
                 ["--to", other.path, "a", "b", "--as", "c"],
                 ["--to", other.path, "tree", "--jobs", "0"]):
        assert store.cairn("push", *args, check=False).code == 2
    assert store.cairn("push", "tree", env={"CAIRN_REMOTE": str(other.path)}).code == 0


def test_mends(store, other, sample, folder):
    """A store with holes gets what is missing."""
    store.add(sample, "tree")
    other.cairn("import", "--no-name", sample / "hello")
    tree = store.roots()["tree"]["digest"]
    push(store, other, "tree/sub")
    objects = counts(push(store, other, tree))[2]
    assert objects > 0
    assert_has(store, "tree", sample, folder)


@pytest.fixture
def large(source):
    for i in range(24):
        write(source / f"d{i}" / "file", pattern(2 << 20, i + 1))
    return source


def interrupt_push(store, other, number, watched=None):
    """Sends a signal once the other store has grown."""
    watched = watched or other
    before = watched.disk_usage()
    process = start([CAIRN, "--store", store.path, "push", "--to", other.path, "large", "--jobs=1"],
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
    wait_until(lambda: process.poll() is not None or watched.disk_usage() > before + (4 << 20),
               "the push starts")
    process.send_signal(number)
    out, err = process.communicate(timeout=TIMEOUT)
    live_processes.discard(process)
    return process.returncode, out.decode(), err.decode()


def test_goes_on_after_an_interruption(store, other, large, folder):
    store.add(large, "large")
    other.add(write(folder / "first", "first"), "first")
    code, out, err = interrupt_push(store, other, signal.SIGINT)
    if code == 0:
        pytest.skip("the signal came too late to interrupt anything")
    assert (code, out) == (130, ""), err
    assert set(other.roots()) == {"first"}
    copied, _, objects, present = counts(push(store, other, "large"))
    assert copied == 1
    # What had arrived is not copied again.
    assert present > 0
    assert objects + present == 49
    assert_has(other, "large", large, folder)


def test_killed(store, other, large, folder):
    store.add(large, "large")
    interrupt_push(store, other, signal.SIGKILL)
    push(store, other, "large")
    assert_has(other, "large", large, folder)


# ---- Over gRPC ----

class Remote:
    """A store behind a daemon, for push and pull."""

    def __init__(self, store, folder):
        self.store = store
        self.path = f"grpc+unix://{folder}/daemon"
        self.daemon = Daemon([CAIRN, "--store", store.path, "daemon",
                              f"--listen=unix:{folder}/daemon", "--list"], folder / "daemon.log")
        self.daemon.wait_logged("listening")


@pytest.fixture
def remote(other, folder, sanitizer_folder):
    made = Remote(other, folder)
    yield made
    clean_up_daemons([made.daemon])


def test_remote(store, other, remote, sample, folder):
    store.add(sample, "tree")
    path = StorePath(sample / "sub", "path").put(store)
    copied, there, objects, present = counts(push(store, remote, "--all"))
    assert (copied, there, present) == (2, 0, 0)
    assert other.roots() == store.roots()
    assert counts(push(store, remote, "tree", "--check"))[2] == 0
    third = Store(folder / "third")
    assert counts(pull(third, remote, "--all")) == (2, 0, objects, 0)
    assert_has(third, "tree", sample, folder)
    assert third.cairn("nix", "verify", "--all", "--no-trust").code == 0
    assert third.cairn("cat", f"{path.path}/hello").out == "hello\n"
    # What is pushed is durable: the daemon has nothing left to say.
    remote.daemon.stop(signal.SIGKILL)
    remote.daemon.code = 0
    assert_has(other, "tree", sample, folder)


def test_remote_goes_on_after_a_kill(store, other, remote, large, folder):
    store.add(large, "large")
    interrupt_push(store, remote, signal.SIGKILL, watched=other)
    copied, _, objects, present = counts(push(store, remote, "large"))
    assert copied == 1
    assert objects + present == 49
    assert_has(other, "large", large, folder)


def test_remote_is_gone(store, remote, sample):
    store.add(sample, "tree")
    remote.daemon.stop()
    failed = push(store, remote, "tree", check=False)
    assert failed.code == 5
    assert remote.path in failed.err
