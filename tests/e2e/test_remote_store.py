"""A store that a cairn daemon keeps, by its address: every command does what it does on a disk."""
import os
import socket
import subprocess
import time

import pytest

import nars
from harness import (CAIRN, SLOW, TIMEOUT, Store, assert_same_tree, cairn, environment,
                     live_processes, pattern, start, wait_until, write)
from nix_paths import StorePath


class RemoteStore(Store):
    """By an address instead of a folder."""

    def __init__(self, address):
        self.path = address


@pytest.fixture
def local(folder):
    """The same things put without a daemon, to compare with."""
    return Store(folder / "local")


@pytest.fixture
def far(folder, serve):
    """A new store behind a daemon on a Unix socket."""
    return RemoteStore(serve(Store(folder / "behind"), "--list").address)


@pytest.fixture
def large(source):
    """Files around every border that there is in the way they are sent."""
    for size in (0, 1, 16384, 16385, 1 << 20, (1 << 20) + 1, 3_000_000, 9_000_017):
        write(source / f"file-{size}", pattern(size, size))
    for number in range(300):
        write(source / f"many/d{number % 7}/{number}", pattern(number * 11, number))
    return source


def test_import_and_export(far, local, large, folder):
    far.add(large, "tree")
    local.add(large, "tree")
    assert far.roots() == local.roots()
    far.cairn("export", "tree", folder / "out")
    assert_same_tree(large, folder / "out")
    # Again: nothing of it is sent.
    assert far.add(large, "again")["digest"] == local.roots()["tree"]["digest"]


def test_listing_and_contents(far, local, sample):
    for store in (far, local):
        store.add(sample, "tree")
    for args in (("ls", "tree"), ("ls", "-R", "--json", "tree"), ("ls", "--json"), ("roots",),
                 ("cat", "tree/hello"), ("nar", "dump", "tree"), ("nar", "hash", "tree"),
                 ("nar", "hash", "--json", "tree")):
        assert far.cairn(*args).raw == local.cairn(*args).raw, args


def test_digests_as_roots(far, local, sample):
    digest = local.add(sample, "tree")["digest"]
    far.add(sample, "tree")
    assert far.cairn("ls", digest).raw == local.cairn("ls", digest).raw


def test_names(far, sample, source):
    far.add(sample, "tree")
    assert far.cairn("import", "--name", "tree", write(source / "other", "other\n"),
                     check=False).code == 6
    far.cairn("import", "--replace", "--name", "tree", source / "other")
    assert far.cairn("cat", "tree").raw == b"other\n"
    far.cairn("roots", "remove", "tree")
    assert far.roots() == {}
    assert far.cairn("ls", "tree", check=False).code == 3
    assert far.cairn("roots", "remove", "tree", check=False).code == 3


def test_what_a_killed_import_leaves(far, local, sample, folder):
    """Its temporary folder is removed by the next one; those of the living are not."""
    local.add(sample, "tree")
    data = local.cairn("nar", "dump", "tree").raw
    env = {"TMPDIR": str(folder)}
    stages = lambda: set(folder.glob("cairn-stage-*"))

    def begin():
        before = stages()
        process = start([CAIRN, "--store", far.path, "nar", "import", "-"], stdin=subprocess.PIPE,
                        stdout=subprocess.DEVNULL, env=environment(env))
        process.stdin.write(data[:200])
        process.stdin.flush()
        wait_until(lambda: stages() - before, "nothing is staged")
        return process, stages() - before

    killed, left = begin()
    killed.kill()
    killed.wait()
    living, used = begin()
    assert not left & stages()
    far.cairn("nar", "import", "-", input=data, env=env)
    assert stages() == used
    living.stdin.write(data[200:])
    living.stdin.close()
    assert living.wait(TIMEOUT) == 0
    assert stages() == set()
    live_processes.difference_update({killed, living})


@pytest.mark.fuse
def test_mount(far, large, mount, folder):
    far.add(large, "tree")
    made = mount(far)
    assert_same_tree(large, made.path / "tree")
    assert os.listdir(made.path) == ["tree"]


def test_nix(far, local, sample):
    for store in (far, local):
        store.cairn("nix", "import", "--name", "sample", sample)
    paths = ("nix", "path-info", "--all", "--json")
    assert far.cairn(*paths).json() == local.cairn(*paths).json()
    path, = [value["path"] for value in far.cairn(*paths).json()]
    far.cairn("nix", "verify", "--all")
    assert far.cairn("nar", "dump", path).raw == nars.of_tree(sample)
    far.cairn("nix", "remove", path)
    assert far.cairn(*paths).json() == []
    assert far.cairn("nix", "path-info", path, check=False).code == 3


def test_references(folder, serve, sample):
    """Path infos that were there before the daemon was."""
    behind = Store(folder / "behind")
    first = StorePath(sample, "first").put(behind)
    second = StorePath(sample / "sub", "second", [first]).put(behind)
    far = RemoteStore(serve(behind, "--list").address)
    for args in (("nix", "path-info", "--json", first.path, second.path),
                 ("nix", "path-info", "--all"),
                 ("nix", "verify", "--no-trust", second.path)):
        assert far.cairn(*args).raw == behind.cairn(*args).raw, args


def test_nar_import(far, local, sample, folder):
    data = nars.of_tree(sample)
    for store in (far, local):
        store.cairn("nar", "import", "--name", "tree", "-", input=data)
    assert far.roots() == local.roots()
    broken = data[:len(data) // 2]
    assert far.cairn("nar", "import", "--name", "broken", "-", input=broken,
                     check=False).code != 0
    assert list(far.roots()) == ["tree"]


# ---- What can be wrong ----

@pytest.mark.parametrize("address, hint", [
    ("grpc+unix://host/path", "grpc+unix:///path"),
    ("grpc+unix://", "grpc+unix:///path"),
    ("grpc+unix:///" + "x" * 200, "107 bytes"),
    ("grpc+unix:///x?timout=3s", "timeout"),
    ("grpc+unix:///x?timeout=3", "timeout=3"),
    ("grpc+unix:///x?timeout=0s", "timeout=0s"),
    ("grpc+unix:///x?in-flight=99999999999G", "in-flight"),
    ("grpc+unix:///x?ca=/etc/hosts", "token-file"),
    ("grpc+unix:///x?token-file=/nowhere", "/nowhere"),
    ("grpc+http://", "host:port"),
    ("grpc+http://host:port", "host:port"),
    ("grpc+http://host:0", "host:port"),
    ("grpc+http://host:123456", "host:port"),
    ("grpc+http://[::1", "host:port"),
    ("grpc+http://host/path", "path"),
    ("grpc+https://host?cert=/x", "key"),
])
def test_addresses(address, hint):
    result = cairn("--store", address, "roots", check=False)
    assert result.code in (1, 2, 3)
    assert hint in result.err


def test_nobody_there(folder):
    start = time.monotonic()
    result = cairn("--store", f"grpc+unix://{folder}/nobody", "roots", check=False)
    assert result.code == 5
    assert f"grpc+unix://{folder}/nobody" in result.err
    # It is tried a few times, not until the timeout.
    assert time.monotonic() - start < 20 * SLOW


def test_silence(folder):
    """Somebody who takes the connection and says nothing."""
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(folder / "silent"))
        silent.listen()
        result = cairn("--store", f"grpc+unix://{folder}/silent?timeout=500ms", "roots",
                       check=False)
    assert result.code in (1, 5)
    assert "silent" in result.err


def test_read_only_daemon(folder, serve, store, sample):
    store.add(sample, "tree")
    far = RemoteStore(serve(store, "--list", "--read-only").address)
    assert far.cairn("cat", "tree/hello").raw == (sample / "hello").read_bytes()
    assert far.cairn("import", "--name", "more", sample, check=False).code == 7
    assert far.cairn("roots", "remove", "tree", check=False).code == 7


def test_daemon_comes_back(folder, serve, store, large, mount):
    """What is read goes on where another daemon is found at the same place."""
    store.add(large, "tree")
    first = serve(store, "--list")
    far = RemoteStore(first.address)
    assert far.cairn("cat", "tree/file-1").raw == (large / "file-1").read_bytes()
    assert first.stop() == 0
    assert far.cairn("cat", "tree/file-1", check=False).code == 5
    serve(store, "--list", socket_path=first.socket)
    assert far.cairn("cat", "tree/file-1").raw == (large / "file-1").read_bytes()
