"""The nar commands: NARs written, hashed, read and looked into."""
import base64
import fcntl
import hashlib
import os
import pty
import resource
import signal
import subprocess
import sys
import termios

import pytest

import harness
import nars
from harness import (CAIRN, TIMEOUT, assert_same_tree, cairn, pattern, run, start, wait_until,
                     write)
from nix_paths import nixbase32

ODD = [b"\xff\xfe", b"line\nbreak", b" ", b"-rf", b"x" * 255, b"A", b"a.b", b"a-b", b".hid"]


def sri(data, algorithm="sha256"):
    digest = hashlib.new(algorithm, data).digest()
    return f"{algorithm}-{base64.b64encode(digest).decode()}"


@pytest.fixture
def odd(sample):
    """The sample, and names that sort and look oddly."""
    for name in ODD:
        write(sample / "sub" / os.fsdecode(name), name)
    return sample


def objects(store):
    """What is in a store, by size and name; writers' scratch is not."""
    return {name: value for name, value in harness.tree_entries(store.path).items()
            if value[0] == "directory" or value[-1]}


def test_dump(store, odd):
    store.add(odd, "odd")
    for part in ("", "sub", "run", "empty", "nothing", "dangling", "big"):
        expected = nars.of_tree(odd / part if part else odd)
        assert store.cairn("nar", "dump", f"odd/{part}").raw == expected, part


def test_hash(store, odd):
    store.add(odd, "odd")
    data = nars.of_tree(odd)
    hexadecimal = hashlib.sha256(data).hexdigest()
    one = store.cairn("nar", "hash", "--json", "odd", "odd/sub").json()
    assert [v["root"] for v in one] == ["odd", "odd/sub"]
    assert one[0]["narHash"] == sri(data)
    assert one[0]["narSize"] == len(data)
    assert one[0]["digest"] == store.roots()["odd"]["digest"]
    line = store.cairn("nar", "hash", "--format=base16", "odd").out.split()
    assert line == [f"sha256:{hexadecimal}", str(len(data)), "odd"]
    assert store.cairn("nar", "hash", "--format=sri", "odd").out.split()[0] == sri(data)
    text = store.cairn("nar", "hash", "odd").out.split()[0]
    assert text == f"sha256:{nixbase32(bytes.fromhex(hexadecimal))}"


def test_import(store, odd, folder):
    digest = store.add(odd, "odd")["digest"]
    data = nars.of_tree(odd)
    other = harness.Store(folder / "other")
    value = other.cairn("nar", "import", "--json", "--name", "mine", input=data).json()[0]
    assert value["digest"] == digest
    assert value["name"] == "mine"
    assert (value["narHash"], value["narSize"]) == (sri(data), len(data))
    assert other.cairn("nar", "dump", "mine").raw == data
    other.cairn("export", "mine", folder / "out")
    assert_same_tree(odd, folder / "out")
    # From a file, without a name.
    path = write(folder / "odd.nar", data)
    assert other.cairn("nar", "import", path).out.split() == [digest]
    assert other.cairn("nar", "import", "-", input=data).out.split() == [digest]
    assert list(other.roots()) == ["mine"]


def test_import_of_single_nodes(store, folder):
    for node in (nars.X, nars.file(b"", True), nars.symlink("a/../b"), nars.directory()):
        data = nars.nar(node)
        store.cairn("nar", "import", "--name=x", "--replace", input=data)
        assert store.cairn("nar", "dump", "x").raw == data


def test_names(store):
    data = nars.nar(nars.X)
    store.cairn("nar", "import", "--name=x", input=nars.GOOD)
    result = store.cairn("nar", "import", "--name=x", input=data, check=False)
    assert result.code == 6
    assert "--replace" in result.err
    store.cairn("nar", "import", "--name=x", input=nars.GOOD)
    store.cairn("nar", "import", "--name=x", "--replace", input=data)
    assert store.cairn("nar", "dump", "x").raw == data
    assert store.cairn("nar", "import", "--name=a/b", input=data, check=False).code == 2


@pytest.mark.parametrize("algorithm", ["sha256", "sha512", "sha1", "md5"])
def test_hash_is_checked(store, algorithm):
    hexadecimal = hashlib.new(algorithm, nars.GOOD).hexdigest()
    for text in (f"{algorithm}:{hexadecimal}", sri(nars.GOOD, algorithm)):
        store.cairn("nar", "import", "--hash", text, "--name=right", input=nars.GOOD)
    result = store.cairn("nar", "import", "--hash", sri(b"", algorithm), "--name=wrong",
                         input=nars.GOOD, check=False)
    assert result.code == 4, result
    assert f"{algorithm}:" in result.err
    assert result.out == ""
    assert list(store.roots()) == ["right"]


@pytest.mark.parametrize("big", [False, True], ids=["small", "big"])
def test_wrong_hash_keeps_nothing(store, sample, big):
    """Neither names nor objects nor space."""
    store.add(sample, "sample")
    before, usage = objects(store), store.disk_usage()
    content = pattern(24 << 20, 7) if big else b"never seen before"
    data = nars.nar(nars.directory(*((f"f{i:04}", nars.file(content + b"%d" % i))
                                     for i in range(2 if big else 3000))))
    result = store.cairn("nar", "import", "--hash", sri(b""), "--name=x", input=data, check=False)
    assert result.code == 4, result
    assert list(store.roots()) == ["sample"]
    assert store.disk_usage() <= usage + 64 * 1024
    digest = store.cairn("nar", "import", input=data).out.strip()
    assert store.cairn("nar", "dump", digest).raw == data
    assert before.keys() <= objects(store).keys()


@pytest.mark.parametrize("name", nars.BROKEN)
def test_broken(store, sample, folder, name):
    """Import keeps nothing, restore says what it left, ls and cat fail: never in silence."""
    data, message = nars.BROKEN[name]
    store.add(sample, "sample")
    usage = store.disk_usage()
    result = store.cairn("nar", "import", "--name=broken", input=data, check=False)
    assert result.code == (1 if name in nars.BEYOND_LIMITS else 4), result
    assert message in result.err and "of the NAR" in result.err
    assert len(result.err.splitlines()) == 1
    assert list(store.roots()) == ["sample"]
    assert store.disk_usage() <= usage + 64 * 1024
    out = folder / "restored"
    for command in (["restore", out], ["ls", "-R", "-"], ["cat", "-", "none"]):
        again = cairn("nar", *command, input=data, check=False)
        assert again.code == result.code, again
        assert message in again.err
        assert command[0] != "restore" or out.exists() == ("is incomplete" in again.err)
    # Too deep for Python.
    run(["rm", "-rf", out])
    assert sorted(os.listdir(folder)) == ["source", "store"]


def test_cut_anywhere(store, folder):
    """At every eighth byte: strings begin there."""
    store.cairn("nar", "import", "--name=whole", input=nars.GOOD)
    usage = store.disk_usage()
    for size in range(0, len(nars.GOOD), 8):
        result = store.cairn("nar", "import", "--name=cut", input=nars.GOOD[:size], check=False)
        assert result.code == 4, (size, result)
        assert f"byte {size} of the NAR" in result.err
    assert list(store.roots()) == ["whole"]
    assert store.disk_usage() <= usage + 64 * 1024


def limit_memory():
    size = 1 << 30
    resource.setrlimit(resource.RLIMIT_AS, (size, size))


@pytest.mark.skipif(harness.SLOW > 1, reason="sanitizers have memory of their own")
@pytest.mark.parametrize("name", ["content beyond the end", "content without measure",
                                  "word without measure", "name without measure", "deep"])
def test_memory_is_bounded(folder, name):
    """Lengths that are claimed are not allocated."""
    data, _ = nars.BROKEN[name]
    # A local store maps its index, which is large; one in memory does not.
    for command in (["--store", "memory://", "nar", "import"], ["nar", "ls", "-"],
                    ["nar", "restore", folder / "out"]):
        result = run([CAIRN, *command], input=data, check=False, preexec_fn=limit_memory)
        assert result.code in (1, 4), result
        assert "of the NAR" in result.err
    run(["rm", "-rf", folder / "out"])


def test_killed_import(store, sample):
    """Nothing of it is seen, and the next writer has its space."""
    store.add(sample, "sample")
    data = nars.nar(nars.directory(*((f"f{i:04}", nars.file(pattern(9000, i + 1)))
                                     for i in range(3000))))
    usage = store.disk_usage()
    process = start([CAIRN, "--store", store.path, "nar", "import", "--name=killed"],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdin.write(data[:-8])
    process.stdin.flush()
    process.kill()
    process.communicate()
    harness.live_processes.discard(process)
    assert list(store.roots()) == ["sample"]
    assert store.cairn("nar", "import", "--name=small", input=nars.GOOD).code == 0
    assert store.disk_usage() <= usage + 1024 * 1024
    digest = store.cairn("nar", "import", "--name=again", input=data).out.split()[0]
    assert store.cairn("nar", "dump", digest).raw == data


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_import(store, sample, number):
    store.add(sample, "sample")
    usage = store.disk_usage()
    data = nars.nar(nars.file(pattern(32 << 20, 3)))
    process = start([CAIRN, "--store", store.path, "nar", "import", "--name=x"],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdin.write(data[:24 << 20])
    process.stdin.flush()
    process.send_signal(number)
    out, err = process.communicate(data[24 << 20:])
    harness.live_processes.discard(process)
    assert process.returncode == 130, err
    assert out == b""
    assert list(store.roots()) == ["sample"]
    assert store.disk_usage() <= usage + 64 * 1024


@pytest.mark.parametrize("command", [["import"], ["restore", "out"], ["ls", "-"]],
                         ids=lambda command: command[0])
def test_interrupted_waiting(store, folder, command):
    """One signal does, also when whoever writes the NAR has stopped without closing it."""
    process = start([CAIRN, "--store", store.path, "nar", *command], cwd=folder,
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdin.write(nars.GOOD[:100])
    process.stdin.flush()
    waiting = lambda: int.from_bytes(fcntl.ioctl(process.stdin, termios.FIONREAD, bytes(4)),
                                     sys.byteorder)
    wait_until(lambda: waiting() == 0, "reading what was written")
    process.send_signal(signal.SIGINT)
    assert process.wait(TIMEOUT) == 130
    assert b"interrupted" in process.stderr.read()
    process.communicate()
    harness.live_processes.discard(process)


def test_restore(odd, folder):
    data = nars.of_tree(odd)
    cairn("nar", "restore", folder / "out", input=data)
    assert_same_tree(odd, folder / "out")
    path = write(folder / "odd.nar", data)
    value = cairn("nar", "restore", "--json", folder / "again", path).json()[0]
    assert_same_tree(odd, folder / "again")
    entries = harness.tree_entries(odd).values()
    assert value["destination"] == str(folder / "again")
    for key, kind in (("files", "file"), ("directories", "directory"), ("symlinks", "symlink")):
        assert value[key] == sum(e[0] == kind for e in entries), key


def test_restore_stays_inside(folder):
    """No way out through symlinks of the NAR, and nothing is written over."""
    outside = folder / "outside"
    outside.mkdir()
    data = nars.nar(nars.directory(("a", nars.symlink(outside)), ("b", nars.symlink("../outside"))))
    cairn("nar", "restore", folder / "out", input=data)
    evil = nars.nar(nars.directory(("a", nars.symlink(outside)),
                                   ("a", nars.directory(("x", nars.X)))))
    assert cairn("nar", "restore", folder / "evil", input=evil, check=False).code == 4
    assert list(outside.iterdir()) == []
    result = cairn("nar", "restore", folder / "out", input=data, check=False)
    assert result.code == 6, result
    (folder / "link").symlink_to(outside)
    for node in (nars.X, nars.directory(("x", nars.X))):
        result = cairn("nar", "restore", folder / "link", input=nars.nar(node), check=False)
        assert result.code == 6, result
    assert list(outside.iterdir()) == []


def test_ls(folder, odd):
    path = write(folder / "odd.nar", nars.of_tree(odd))
    names = lambda *args: cairn("nar", "ls", "-0", *args).raw.split(b"\0")[:-1]
    assert names(path) == sorted(os.listdir(os.fsencode(odd)))
    assert names(path, "sub/") == sorted(os.listdir(os.fsencode(odd / "sub")))
    everything = sorted(name for name in harness.tree_entries(odd) if name)
    assert sorted(names("-R", path)) == everything
    below = sorted(name[4:] for name in everything if name.startswith(b"sub/"))
    assert sorted(names("-R", path, "/sub")) == below
    assert names(path, "sub/a/b/c/deep") == [b"sub/a/b/c/deep"]
    assert names(path, "nothing") == []
    for missing in ("subway", "su", "sub/none", "run/below"):
        result = cairn("nar", "ls", path, missing, check=False)
        assert result.code == 3, result
        assert missing in result.err
    line = cairn("nar", "ls", "-l", path, "link").out
    assert line.split() == ["lr--r--r--", "5", "link", "->", "hello"]


def test_ls_json(folder, odd):
    data = nars.of_tree(odd)
    path = write(folder / "odd.nar", data)
    values = {base64.b64decode(v["name_base64"]) if "name_base64" in v else v["name"].encode(): v
              for v in cairn("nar", "ls", "-R", "--json", path).json()}
    for name, entry in harness.tree_entries(odd).items():
        if not name:
            continue
        value = values.pop(name)
        assert value["kind"] == entry[0]
        if entry[0] == "file":
            assert value["executable"] == entry[1]
            assert value["size"] == len(entry[2])
            assert data[value["offset"]:][:value["size"]] == entry[2]
        elif entry[0] == "symlink":
            assert value["target"].encode() == entry[1]
    assert not values


def test_cat(folder, odd):
    data = nars.of_tree(odd)
    path = write(folder / "odd.nar", data)
    assert cairn("nar", "cat", path, "big").raw == harness.BIG
    assert cairn("nar", "cat", path, "/sub//a/b/c/deep").out == "deep\n"
    assert cairn("nar", "cat", "-", "run", input=data).raw == (odd / "run").read_bytes()
    assert cairn("nar", "cat", "-", input=nars.nar(nars.file(b"alone"))).out == "alone"
    for wrong, code in (("none", 3), ("sub", 1), ("link", 1), ("sub/link/x", 3)):
        assert cairn("nar", "cat", path, wrong, check=False).code == code, wrong
    assert cairn("nar", "cat", path, check=False).code == 1


def test_no_terminals(store, sample):
    """Archives are not for the eyes, and not typed in."""
    store.add(sample, "sample")
    ours, theirs = pty.openpty()
    try:
        for args in (["dump", "sample"], ["import"], ["ls", "-"], ["restore", "x"]):
            result = subprocess.run([CAIRN, "--store", store.path, "nar", *args], stdin=theirs,
                                    stdout=theirs, stderr=subprocess.PIPE, timeout=harness.TIMEOUT,
                                    check=False)
            assert result.returncode == 2, result
            assert b"terminal" in result.stderr
    finally:
        os.close(ours)
        os.close(theirs)


def test_readers_that_leave(store, source):
    write(source / "big", pattern(8 << 20))
    store.add(source, "tree")
    for args in (["nar", "dump", "tree"], ["nar", "cat", "-", "big"]):
        data = nars.of_tree(source) if "-" in args else None
        result = run(["sh", "-c", '"$@" | head -c 10 >/dev/null', "sh", CAIRN, "--store",
                      store.path, *args], input=data)
        assert result.err == ""


def test_missing_file(folder, store):
    for args in (["import", folder / "none"], ["ls", folder / "none"],
                 ["restore", folder / "out", folder / "none"]):
        result = store.cairn("nar", *args, check=False)
        assert result.code == 3, result
        assert "none" in result.err
    assert not store.path.exists()
    assert not (folder / "out").exists()
    assert store.cairn("nar", "dump", "none", check=False).code != 0
