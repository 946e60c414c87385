"""What import takes, what it refuses, and what it stores only once."""
import os
import socket
import subprocess
import sys

import pytest

from harness import (CAIRN, Store, as_user, assert_same_tree, environment,
                     executable_for_user, give_to_user, pattern, run, start, write)


def roots_text(store):
    return store.cairn("roots").out


def test_kinds(store, sample, mount):
    said = store.add(sample, "sample")
    assert said["name"] == "sample"
    assert said["kind"] == "directory"
    assert said["digest"].startswith("b3:")
    assert len(said["digest"]) == 47
    assert_same_tree(sample, mount(store) / "sample")


def test_known_digest(store, source):
    """Golden values: the digests are the same in every implementation."""
    write(source / "file", "")
    assert store.add(source / "file", "e")["digest"] == (
        "b3:rxNJufX5oaagQE3qNtzJSZvLJcmtwRK3zJqTyuQfMmI=")
    os.unlink(source / "file")
    # The empty Directory is encoded as nothing at all.
    assert store.add(source, "d")["digest"] == (
        "b3:rxNJufX5oaagQE3qNtzJSZvLJcmtwRK3zJqTyuQfMmI=")


def test_same_digest_everywhere(folder, sample):
    digests = {Store(folder / f"s{threads}").add(sample, "x", f"--threads={threads}")["digest"]
               for threads in (1, 2, 8)}
    assert len(digests) == 1


def test_executable_bit_is_content(store, source):
    write(source / "a/file", "same", 0o644)
    write(source / "b/file", "same", 0o744)
    write(source / "c/file", "same", 0o655)
    a, b, c = (store.add(source / name)["digest"] for name in "abc")
    assert a == c
    assert a != b


def test_nothing_else_is_content(store, source):
    write(source / "a/file", "same", 0o600)
    write(source / "b/file", "same", 0o666)
    os.utime(source / "b/file", (1, 1))
    (source / "b").chmod(0o700)
    assert store.add(source / "a")["digest"] == store.add(source / "b")["digest"]


@pytest.mark.parametrize("kind", ["fifo", "socket"])
def test_special_files(store, source, kind):
    write(source / "good", "good")
    (source / "sub").mkdir()
    path = source / "sub/special"
    if kind == "fifo":
        os.mkfifo(path)
    else:
        s = socket.socket(socket.AF_UNIX)
        s.bind(str(path))
        s.close()
    result = store.cairn("import", source, "--name", "tree", check=False)
    assert result.code != 0
    assert "special" in result.err
    assert kind in result.err.lower()
    assert "tree" not in roots_text(store) if store.path.exists() else True
    said = store.add(source, "tree", "--skip-special")
    assert store.cairn("ls", "tree").out.split() == ["good", "sub"]
    path.unlink()
    assert store.add(source, "clean")["digest"] == said["digest"]


@pytest.mark.root
def test_device_files(store, source):
    os.mknod(source / "null", 0o020666, os.makedev(1, 3))
    result = store.cairn("import", source, "--name", "tree", check=False)
    assert result.code != 0
    assert "null" in result.err
    store.add(source, "tree", "--skip-special")


def test_special_file_as_root(store, source):
    os.mkfifo(source / "fifo")
    for options in ([], ["--skip-special"]):
        result = store.cairn("import", source / "fifo", *options, check=False)
        assert result.code != 0
        assert "fifo" in result.err


def test_missing_path(store, source):
    result = store.cairn("import", source / "missing", check=False)
    assert result.code != 0
    assert "missing" in result.err
    assert "No such file" in result.err


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_unreadable(folder, source, kind):
    """As a plain user: the whole import fails, and says what it could not read."""
    write(source / "good", "good")
    if kind == "file":
        write(source / "sub/secret", "x", 0o000)
    else:
        write(source / "secret/file", "x")
        (source / "secret").chmod(0o000)
    home = folder / "home"
    home.mkdir()
    give_to_user(source)
    give_to_user(home)
    program = executable_for_user(folder)
    command = as_user(program, "--store", home / "store", home=home)
    result = run([*command, "import", source, "--name", "tree"], check=False)
    (source / "secret").chmod(0o700) if kind == "directory" else None
    assert result.code != 0
    assert "secret" in result.err
    assert "Permission denied" in result.err
    listing = run([*command, "roots"], check=False)
    assert "tree" not in listing.out


def test_file_that_changes(store, source):
    """A file that grows while it is read is an error that says so."""
    write(source / "growing", pattern(64 << 20))
    script = ("import os,sys\n"
              "f = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)\n"
              "print('ready', flush=True)\n"
              "while os.getppid() == int(sys.argv[2]): os.write(f, b'more'); os.fsync(f)\n")
    writer = start([sys.executable, "-c", script, source / "growing", str(os.getpid())],
                   stdout=subprocess.PIPE)
    try:
        assert writer.stdout.readline() == b"ready\n"
        result = store.cairn("import", source, "--name", "tree", check=False)
    finally:
        writer.kill()
        writer.wait()
        writer.stdout.close()
    assert result.code != 0, result
    assert "growing" in result.err
    assert "changed" in result.err
    assert "tree" not in roots_text(store)
    store.add(source, "tree")


def test_hard_links(store, source, mount):
    content = pattern(1 << 20)
    write(source / "one", content)
    for i in range(20):
        os.link(source / "one", source / f"link{i}")
    store.add(source, "tree")
    assert store.disk_usage() < 3 << 20
    top = mount(store) / "tree"
    assert (top / "link7").read_bytes() == content
    assert os.lstat(top / "link7").st_nlink == 1


def test_equal_contents_are_stored_once(store, source):
    for i in range(20):
        write(source / f"copy{i}", pattern(1 << 20))
    store.add(source, "tree")
    assert store.disk_usage() < 3 << 20


def test_sparse_files(store, source, mount):
    with open(source / "sparse", "wb") as f:
        f.truncate(64 << 20)
        f.seek(40 << 20)
        f.write(b"in the middle")
    store.add(source, "tree")
    assert store.disk_usage() < 8 << 20
    with open(mount(store) / "tree/sparse", "rb") as f:
        assert os.fstat(f.fileno()).st_size == 64 << 20
        assert f.read(1 << 20) == bytes(1 << 20)
        f.seek((40 << 20) - 1)
        assert f.read(15) == b"\0in the middle\0"


def test_odd_names(store, source, mount):
    names = [b"\xff\xfe raw", b"line\nbreak", b" ", b"-n", b"*", b"\"quoted\"", b"\x01\x7f",
             "ünï→".encode(), b"back\\slash", b"x" * 255]
    for i, name in enumerate(names):
        write(os.path.join(os.fsencode(source), name).decode("utf-8", "surrogateescape"), b"%d" % i)
    store.add(source, "tree")
    assert_same_tree(source, mount(store) / "tree")
    assert store.cairn("ls", "tree").code == 0
    assert len(store.cairn("ls", "tree", "--json").json()) == len(names)


def test_names_of_roots(store, sample):
    store.cairn("import", f"{sample}/sub/")
    store.cairn("import", ".", cwd=sample / "one")
    store.cairn("import", "..", cwd=sample / "sub/a")
    assert set(store.roots()) == {"sub", "one"}
    store.cairn("import", sample / "hello", "--name", "a name with spaces")
    assert "a name with spaces" in store.roots()
    for bad in ("", ".", "..", "a/b", "x" * 256):
        assert store.cairn("import", sample / "hello", "--name", bad, check=False).code != 0
    assert store.cairn("import", sample / "hello", sample / "run", "--name", "two",
                       check=False).code != 0


def test_several_paths(store, sample):
    values = store.cairn("import", "--json", sample / "one", sample / "two", sample / "hello",
                         sample / "link").json()
    assert [v["name"] for v in values] == ["one", "two", "hello", "link"]
    assert [v["kind"] for v in values] == ["directory", "directory", "file", "symlink"]
    assert values[0]["digest"] == values[1]["digest"]
    assert set(store.roots()) == {"one", "two", "hello", "link"}


def test_plain_output(store, sample):
    digest = store.add(sample, "again")["digest"]
    out = store.cairn("import", sample, "--name", "sample").out
    assert out.count("\n") == 1
    assert "sample" in out
    assert digest in out


def test_name_conflicts(store, sample):
    store.add(sample / "one", "name")
    # The same node again is no conflict.
    store.add(sample / "two", "name")
    result = store.cairn("import", sample / "sub", "--name", "name", check=False)
    assert result.code != 0
    assert "name" in result.err
    assert "--replace" in result.err
    old = store.roots()["name"]["digest"]
    assert old == store.add(sample / "one", "other")["digest"]
    store.add(sample / "sub", "name", "--replace")
    assert store.roots()["name"]["digest"] != old


def test_without_a_name(store, sample, mount):
    digest = store.cairn("import", "--no-name", sample / "sub").out.split()[-1]
    assert store.roots() == {}
    assert store.cairn("cat", f"{digest}/hello").out == "hello\n"
    store.cairn("roots", "add", "later", digest)
    assert (mount(store) / "later/hello").read_text() == "hello\n"


def test_second_import_writes_next_to_nothing(store, source):
    for i in range(300):
        write(source / f"d{i % 10}" / f"f{i}", pattern(3000 + i, i + 1))
    write(source / "large", pattern(5 << 20, 99))
    first = store.add(source, "tree")
    before = store.disk_usage()
    for options in ([], ["--no-cache"]):
        again = store.add(source, "tree", *options)
        assert again["digest"] == first["digest"]
    assert store.disk_usage() - before <= 256 << 10


def test_changes_after_an_import_are_seen(store, source, mount):
    """Same size, and whatever times the file system gives."""
    write(source / "file", "old content")
    os.utime(source / "file", (1_000_000_000, 1_000_000_000))
    store.add(source, "old")
    write(source / "file", "new content")
    os.utime(source / "file", (1_000_000_000, 1_000_000_000))
    store.add(source, "new")
    m = mount(store)
    assert (m / "old/file").read_text() == "old content"
    assert (m / "new/file").read_text() == "new content"


def test_one_file_system(store, source, mount):
    """A mount point in the source is crossed, unless -x."""
    write(source / "tree/file", "outside")
    (source / "tree/mnt").mkdir()
    store.add(source / "tree/file", "inside")
    m = mount(store, path=source / "tree/mnt")
    other = Store(store.path.parent / "other")
    other.add(source / "tree", "crossed")
    other.add(source / "tree", "stayed", "-x")
    assert m.stop() == 0
    assert other.cairn("ls", "crossed/mnt").out.split() == ["inside"]
    assert other.cairn("ls", "stayed/mnt").out == ""
    assert other.cairn("cat", "crossed/mnt/inside").out == "outside"


def test_imports_at_once(store, source):
    """Several processes write to one store."""
    for i in range(4):
        for j in range(50):
            write(source / f"t{i}" / f"f{j}", pattern(2000 + j, (i % 2) * 1000 + j + 1))
    processes = [start([CAIRN, "--store", store.path, "import", source / f"t{i}"],
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
                 for i in range(4)]
    for process in processes:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    assert set(store.roots()) == {"t0", "t1", "t2", "t3"}
    for i in range(4):
        out = store.path.parent / f"out{i}"
        store.cairn("export", f"t{i}", out)
        assert_same_tree(source / f"t{i}", out)


def test_deep_and_wide(store, source, folder):
    deep = source.joinpath(*["n"] * 300)
    deep.mkdir(parents=True)
    write(deep / "end", "end")
    for i in range(3000):
        (source / f"w{i:04}").touch()
    store.add(source, "tree")
    store.cairn("export", "tree", folder / "out")
    assert_same_tree(source, folder / "out")


def test_the_store_is_not_imported_into_itself(folder, source):
    write(source / "file", "x")
    inside = Store(source / "store")
    result = inside.cairn("import", source, "--name", "tree", check=False)
    # Refused or left out, but it ends, and says something when it refuses.
    assert result.code == 0 or "store" in result.err


def test_compressed_and_raw(folder, source, mount):
    """Small files take less room than they have bytes, and come back from old and new records."""
    for i in range(40):
        write(source / "raw" / f"f{i}", pattern(50_000, i + 1))
        write(source / "packed" / f"f{i}", pattern(50_000, i + 101))
    store = Store(folder / "store")
    raw = run([CAIRN, "--store", f"file://{store.path}?compression=none",
               "import", "--json", source / "raw"]).json()[0]
    assert raw["bytes_new"] == 40 * 50_000
    assert raw["bytes_stored"] > raw["bytes_new"]
    before = store.disk_usage()
    packed = store.add(source / "packed")
    assert packed["bytes_new"] == 40 * 50_000
    assert packed["bytes_stored"] < packed["bytes_new"] / 2
    assert store.disk_usage() - before < packed["bytes_new"] / 2
    again = store.add(source / "packed", "again", "--no-cache")
    assert (again["bytes_new"], again["bytes_stored"]) == (0, 0)

    m = mount(store)
    for name in ("raw", "packed"):
        assert_same_tree(source / name, m / name)
        store.cairn("export", name, folder / name)
        assert_same_tree(source / name, folder / name)


def test_verbose_says_what_was_stored(store, source):
    write(source / "tree/file", pattern(50_000))
    said = store.cairn("import", "-v", source / "tree").err
    assert "48.8 KiB in 1 files, 48.8 KiB of it new, stored in " in said
    said = store.cairn("import", "-v", "--name", "again", source / "tree").err
    assert "0 B of it new, stored in 0 B" in said
