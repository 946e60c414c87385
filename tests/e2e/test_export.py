"""Export: trees back on disk."""
import os
import stat

from harness import CAIRN, assert_same_tree, pattern, run, write


def test_round_trip(store, sample, folder):
    digest = store.add(sample, "sample")["digest"]
    store.cairn("export", "sample", folder / "out")
    assert_same_tree(sample, folder / "out")
    assert store.add(folder / "out", "again")["digest"] == digest


def test_parts(store, sample, folder):
    store.add(sample, "sample")
    store.cairn("export", "sample/sub/a", folder / "a")
    assert_same_tree(sample / "sub/a", folder / "a")
    store.cairn("export", "sample/run", folder / "run")
    assert (folder / "run").read_bytes() == (sample / "run").read_bytes()
    store.cairn("export", "sample/dangling", folder / "link")
    assert os.readlink(folder / "link") == "nowhere/at/all"


def test_by_digest(store, sample, folder):
    digest = store.add(sample, "sample")["digest"]
    store.cairn("export", digest, folder / "all")
    assert_same_tree(sample, folder / "all")
    store.cairn("export", f"{digest}/sub", folder / "sub")
    assert_same_tree(sample / "sub", folder / "sub")


def test_modes_follow_the_umask(store, sample, folder):
    store.add(sample, "sample")
    script = 'umask 027; exec "$@"'
    run(["sh", "-c", script, "sh", CAIRN, "--store", store.path, "export", "sample",
         folder / "out"])
    mode = lambda name: stat.S_IMODE(os.lstat(folder / "out" / name).st_mode)
    assert mode("hello") == 0o640
    assert mode("run") == 0o750
    assert mode("sub") == 0o750
    assert stat.S_IMODE(os.lstat(folder / "out").st_mode) == 0o750


def test_existing_destination(store, sample, folder):
    store.add(sample, "sample")
    (folder / "empty").mkdir()
    store.cairn("export", "sample", folder / "empty")
    assert_same_tree(sample, folder / "empty")
    write(folder / "full/precious", "precious")
    write(folder / "file", "precious")
    (folder / "link").symlink_to("elsewhere")
    for name in ("full", "file", "link"):
        result = store.cairn("export", "sample", folder / name, check=False)
        assert result.code != 0
        assert name in result.err
    result = store.cairn("export", "sample/hello", folder / "file", check=False)
    assert result.code != 0
    assert (folder / "full/precious").read_text() == "precious"
    assert os.listdir(folder / "full") == ["precious"]
    assert (folder / "file").read_text() == "precious"
    assert not (folder / "elsewhere").exists()


def test_missing_parent(store, sample, folder):
    store.add(sample, "sample")
    result = store.cairn("export", "sample", folder / "no/such/place", check=False)
    assert result.code != 0
    assert "No such file" in result.err


def test_holes(store, source, folder):
    """Zeros take no space on the way out either."""
    with open(source / "sparse", "wb") as f:
        f.write(b"start")
        f.truncate(32 << 20)
        f.seek(20 << 20)
        f.write(b"middle")
    store.add(source, "tree")
    store.cairn("export", "tree", folder / "out")
    st = os.lstat(folder / "out/sparse")
    assert st.st_size == 32 << 20
    assert st.st_blocks * 512 < 4 << 20
    assert_same_tree(source, folder / "out")


def test_odd_names(store, source, folder):
    for name in (b"\xff\xfe", b"line\nbreak", b" ", b"-rf", b"x" * 255):
        path = os.path.join(os.fsencode(source), name)
        with open(path, "wb") as f:
            f.write(name)
    store.add(source, "tree")
    store.cairn("export", "tree", folder / "out")
    assert_same_tree(source, folder / "out")


def test_threads(store, source, folder):
    for i in range(200):
        write(source / f"d{i % 7}" / f"f{i}", pattern(i * 531, i + 1), 0o755 if i % 3 else 0o644)
    store.add(source, "tree")
    for threads in (1, 8):
        out = folder / f"out{threads}"
        store.cairn("export", f"--threads={threads}", "tree", out)
        assert_same_tree(source, out)
