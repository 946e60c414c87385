"""The command line: help, exit codes, messages, the small commands."""
import base64
import os
import re
import socket

import pytest

from harness import BIG, CAIRN, Mount, cairn, run, write

COMMANDS = ["import", "roots", "ls", "cat", "du", "export", "mount", "umount", "upgrade",
            "virtiofs", "daemon", "push", "pull", "nar", "nix", "config", "stats", "fsck", "gc",
            "reindex", "version"]
NAR_COMMANDS = ["dump", "hash", "import", "restore", "ls", "cat"]
NIX_COMMANDS = ["import", "copy", "path-info", "verify", "sign", "remove", "generate-key"]
GROUPS = {"": COMMANDS, "nar": NAR_COMMANDS, "nix": NIX_COMMANDS}
HEX = re.compile(r"[0-9a-f]{64}")


@pytest.mark.parametrize("command", [
    "", *(f"{group} {c}".strip() for group, names in GROUPS.items() for c in names)])
def test_help(command):
    args = command.split()
    result = cairn(*args, "--help")
    lines = result.out.splitlines()
    assert result.err == ""
    assert any("cairn" in line for line in lines[:3])
    assert max(len(line.expandtabs()) for line in lines) <= 80
    assert not any(line != line.rstrip() for line in lines)
    for other in GROUPS.get(command, []):
        assert other in result.out
    assert cairn("help", *args).out == result.out


def test_short_help():
    assert cairn("-h").out == cairn("--help").out


def test_version():
    assert re.search(r"\b\d+\.\d+\.\d+\b", cairn("version").out)
    assert cairn("--version").out == cairn("version").out


@pytest.mark.parametrize("args", [
    [], ["unknown"], ["--unknown"], ["import"], ["cat"], ["export"], ["export", "one"],
    ["mount"], ["mount", "a", "b"], ["umount"], ["ls", "--unknown"], ["roots", "unknown"],
    ["nix"], ["nix", "unknown"], ["nar"], ["nar", "unknown"], ["nar", "dump"],
    ["nar", "dump", "a", "b"], ["nar", "hash"], ["nar", "hash", "--format=odd", "x"],
    ["nar", "import", "a", "b"], ["nar", "import", "--hash=md4:00"], ["nar", "restore"],
    ["nar", "restore", "a", "b", "c"], ["nar", "ls"], ["nar", "cat"], ["nar", "cat", "a", "b", "c"],
    ["nix", "--unknown"], ["nix", "import"], ["nix", "copy"], ["roots", "add"], ["roots", "add", "one"],
    ["roots", "remove"], ["import", "--threads"],
    ["import", "--threads", "x", "."], ["import", "--threads", "-1", "."],
    ["mount", "--inodes=odd", "x"], ["mount", "--threads=0x", "x"],
], ids=" ".join)
def test_usage_errors(folder, args):
    result = cairn("--store", folder / "store", *args, check=False)
    assert result.code == 2, result
    assert result.out == ""
    assert "--help" in result.err
    assert not (folder / "store").exists()


def test_exit_codes_are_documented(store, sample):
    text = cairn("--help").out
    store.add(sample, "sample")
    missing = store.cairn("cat", "sample/missing", check=False)
    assert missing.code not in (0, 2)
    for code in (0, 1, 2, missing.code):
        assert re.search(rf"(^|  ) *{code}  \w", text, re.M), code


@pytest.mark.parametrize("address", ["ftp://x", "grpc+foo://host"])
def test_unknown_schemes(address):
    result = cairn("--store", address, "roots", check=False)
    assert result.code != 0
    assert "file://" in result.err
    assert "memory://" in result.err


@pytest.mark.parametrize("address", ["memory://x", "memory:///x", "file://", "file://host/path",
                                     "file:///tmp/x?unknown=1", "memory://?a=b",
                                     "file:///tmp/%zz", "file:///tmp/%00", ""])
def test_wrong_addresses(address):
    result = cairn("--store", address, "roots", check=False)
    assert result.code != 0
    assert result.err.startswith("cairn")
    assert result.out == ""


def test_addresses(folder, sample):
    path = folder / "a store"
    cairn("--store", path, "import", sample, "--name", "x")
    for address in (path, f"file://{folder}/a%20store", f"file://{folder}/a store"):
        assert "x" in cairn("--store", address, "roots").out
    assert "x" in cairn("--store", "./a store", "roots", cwd=folder).out
    assert "x" in cairn("roots", "--store", path).out
    assert "x" in cairn(f"--store={path}", "roots").out
    assert "x" in cairn("roots", env={"CAIRN_STORE": str(path)}).out
    # The option wins.
    assert "x" in cairn("--store", path, "roots", env={"CAIRN_STORE": "bad://"}).out


def test_memory_store(sample):
    """Good for one command: there is nothing in it for another to read."""
    assert "b3:" in cairn("--store", "memory://", "import", sample, "--name", "x").out
    assert cairn("--store", "memory://", "roots", check=False).out == ""


def test_missing_store(folder):
    for args in (["roots"], ["ls"], ["cat", "x/y"], ["export", "x", folder / "out"]):
        result = cairn("--store", folder / "missing", *args, check=False)
        assert result.code not in (0, 2), args
        assert "missing" in result.err
        assert not (folder / "missing").exists()


def test_not_a_store(folder):
    """A folder with something else in it is not made into a store."""
    write(folder / "photos/one.jpg", "jpg")
    result = cairn("--store", folder / "photos", "import", folder / "photos/one.jpg", check=False)
    assert result.code != 0
    assert "photos" in result.err
    assert os.listdir(folder / "photos") == ["one.jpg"]
    write(folder / "file", "no folder")
    assert cairn("--store", folder / "file", "roots", check=False).code != 0


def test_roots(store, sample):
    digest = store.add(sample, "sample")["digest"]
    store.add(sample / "hello", "hello")
    store.add(sample / "link", "link")
    assert store.cairn("roots").out == store.cairn("roots", "list").out
    lines = store.cairn("roots").out.splitlines()
    assert len(lines) == 3
    assert any("sample" in line and digest in line for line in lines)
    roots = store.roots()
    assert roots["sample"]["kind"] == "directory"
    assert roots["sample"]["digest"] == digest
    assert roots["hello"]["size"] == 6
    assert roots["link"]["kind"] == "symlink"
    assert roots["link"]["target"] == "hello"


def test_roots_add(store, sample):
    digest = store.add(sample, "sample")["digest"]
    store.cairn("roots", "add", "by-digest", digest)
    store.cairn("roots", "add", "by-path", "sample/sub")
    store.cairn("roots", "add", "a-file", "sample/hello")
    roots = store.roots()
    assert roots["by-digest"]["digest"] == digest
    assert roots["by-path"]["kind"] == "directory"
    assert roots["a-file"]["kind"] == "file"
    absent = "b3:" + base64.b64encode(bytes(32)).decode()
    for bad in (absent, "sample/missing", "missing", "b3:short"):
        assert store.cairn("roots", "add", "bad", bad, check=False).code != 0
    assert "bad" not in store.roots()


def test_roots_remove(store, sample):
    for name in ("one", "two", "three"):
        store.add(sample, name)
    store.cairn("roots", "remove", "one", "two")
    assert set(store.roots()) == {"three"}
    result = store.cairn("roots", "remove", "one", check=False)
    assert result.code != 0
    assert "one" in result.err


def test_ls(store, sample):
    store.add(sample, "sample")
    assert store.cairn("ls").out.split() == ["sample"]
    assert store.cairn("ls", "sample").out.split("\n")[:-1] == sorted(
        os.listdir(sample), key=os.fsencode)
    assert store.cairn("ls", "sample/sub/").out.split() == ["a", "hello", "link", "other", "run"]
    recursive = store.cairn("ls", "-R", "sample").out
    assert "sub/a/b/c/deep" in recursive
    long = store.cairn("ls", "-l", "sample").out.splitlines()
    assert any(line.endswith("link -> hello") for line in long)
    assert sum("b3:" in line for line in long) >= len(os.listdir(sample)) - 3
    values = {v["name"]: v for v in store.cairn("ls", "--json", "sample").json()}
    assert set(values) == set(os.listdir(sample))
    assert values["big"]["size"] == len(BIG)
    assert values["run"]["executable"] is True
    assert values["link"]["target"] == "hello"
    for missing in ("nothing-here", "sample/nothing-here", "sample/hello/below"):
        assert store.cairn("ls", missing, check=False).code not in (0, 2)


def test_cat(store, sample):
    digest = store.add(sample, "sample")["digest"]
    assert store.cairn("cat", "sample/hello").raw == b"hello\n"
    assert store.cairn("cat", "sample/big").raw == BIG
    assert store.cairn("cat", "sample/hello", "sample/sub/a/b/c/deep").raw == b"hello\ndeep\n"
    assert store.cairn("cat", f"{digest}/hello").raw == b"hello\n"
    hex_digest = base64.b64decode(digest[3:]).hex()
    assert HEX.fullmatch(hex_digest)
    assert store.cairn("cat", f"{hex_digest}/hello").raw == b"hello\n"
    for wrong in ("sample", "sample/missing", "missing", "sample/sub", "sample/dangling"):
        result = store.cairn("cat", wrong, check=False)
        assert result.code not in (0, 2), wrong
        assert wrong in result.err


def test_messages_name_the_program(store):
    result = store.cairn("cat", "x", check=False)
    assert result.err.startswith("cairn")
    assert result.err.endswith("\n")


def test_runs_without_a_home(folder, sample):
    # Sanitizers keep their options.
    kept = [f"{k}={v}" for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")]
    bare = ["env", "-i", *kept, CAIRN]
    result = run([*bare, "--store", folder / "store", "import", sample, "--name", "x"])
    assert "x" in result.out
    result = run([*bare, "roots"], check=False)
    assert result.code != 0
    assert "--store" in result.err or "CAIRN_STORE" in result.err


def test_xdg_data_home(folder, sample):
    env = {"XDG_DATA_HOME": str(folder / "data")}
    cairn("import", sample, "--name", "x", env=env)
    assert (folder / "data/cairn").is_dir()
    assert "x" in cairn("roots", env=env).out


@pytest.mark.root
def test_read_only_store(store, sample, folder):
    """What may only be read can be read."""
    store.add(sample, "sample")
    view = folder / "view"
    view.mkdir()
    run(["mount", "--bind", store.path, view])
    try:
        run(["mount", "-o", "remount,bind,ro", view])
        assert cairn("--store", view, "cat", "sample/hello").out == "hello\n"
        result = cairn("--store", view, "import", sample / "sub", check=False)
        assert result.code not in (0, 2)
        assert "read-only" in result.err.lower()
    finally:
        run(["umount", view])


@pytest.mark.fuse
def test_ready_notification(store, sample, folder):
    """A service manager is told when the mount is ready."""
    store.add(sample, "sample")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(str(folder / "notify"))
        s.settimeout(60)
        (folder / "mnt").mkdir()
        m = Mount(store, folder / "mnt", ["--list-root"], folder / "log",
                  env={"NOTIFY_SOCKET": str(folder / "notify")})
        try:
            assert b"READY=1" in s.recv(4096)
            assert os.listdir(m) == ["sample"]
        finally:
            assert m.clean_up()
