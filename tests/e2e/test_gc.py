"""cairn gc: what goes and what stays, and what it says of that."""
import contextlib
import os
import subprocess
import time

import pytest

from harness import CAIRN, assert_same_tree, cairn, environment, run, write


def gc(store, *args, **kw):
    said, = store.cairn("gc", "--json", *args, **kw).json()
    return said


def used(store):
    """Bytes of packs and large files, which gc gives back; the index keeps what it has."""
    return sum(os.lstat(os.path.join(folder, name)).st_blocks * 512
               for below in ("packs", "files", "tmp")
               for folder, _, names in os.walk(store.path / below) for name in names)


def make_tree(path, seed, large=2):
    for i in range(60):
        write(path / f"d{i % 7}/f{i}", os.urandom(100 + i * 331))
    for i in range(large):
        write(path / f"large{i}", seed.to_bytes(2, "little") * 200_000 + os.urandom(9))
    return path


def test_names_keep_and_others_go(store, folder):
    one, two = (make_tree(folder / name, i) for i, name in enumerate(("one", "two")))
    store.add(one)
    store.add(two)
    assert gc(store)["freed_bytes"] == 0
    store.cairn("roots", "remove", "two")
    before = used(store)
    would = gc(store, "--dry-run")
    assert used(store) == before
    said = gc(store)
    assert (said["blobs"], said["files"], said["packs"]) == (62, 2, 1)
    assert said["freed_bytes"] == before - used(store) > 1_000_000
    assert [would[k] for k in ("blobs", "directories", "files", "packs", "live")] == [
        said[k] for k in ("blobs", "directories", "files", "packs", "live")]
    assert abs(would["freed_bytes"] - said["freed_bytes"]) < 50_000
    store.cairn("fsck", "--read-data")
    store.cairn("export", "one", folder / "out")
    assert_same_tree(folder / "out", one)
    # Importers do not believe what they remember of files that are gone.
    store.add(two)
    store.cairn("export", "two", folder / "out2")
    assert_same_tree(folder / "out2", two)
    store.cairn("roots", "remove", "one", "two")
    gc(store)
    assert used(store) < 10_000
    assert store.cairn("gc").out == ("0 objects in use; 0 blobs and 0 directories deleted\n"
                                     "0 B freed: 0 files and 0 packs\n")


def test_bounds(store, folder):
    store.add(make_tree(folder / "tree", 1, 100))
    store.cairn("roots", "remove", "tree")
    assert gc(store, "--older-than=1h")["freed_bytes"] == 0
    said = gc(store, "--max-freed=1M")
    assert said["freed_bytes"] >= 1 << 20
    assert 0 < said["files"] < 100
    assert gc(store)["files"] == 100 - said["files"]


def test_only_one_at_a_time(store, sample):
    store.add(sample)
    (store.path / "leases").mkdir(exist_ok=True)
    with subprocess.Popen(["flock", store.path / "leases/gc", "cat"], stdin=subprocess.PIPE) as p:
        while run(["flock", "-n", store.path / "leases/gc", "true"], check=False).code == 0:
            time.sleep(0.01)
        result = store.cairn("gc", check=False)
        p.stdin.close()
    assert result.code == 5
    assert "by another process" in result.err


def test_wrong_options(store, sample):
    store.add(sample)
    for option in ("--older-than=3", "--older-than=h", "--max-freed=much", "--paths=some",
                   "--paths-within=-1d", "extra"):
        result = store.cairn("gc", option, check=False)
        assert result.code == 2, result
    result = cairn("--store", "memory://", "gc", check=False)
    assert (result.code, "no garbage of its own" in result.err) == (1, True)


@contextlib.contextmanager
def entered(path):
    """A way to a folder that goes on when its name is gone, and the kernel has forgotten it."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    yield f"/proc/self/fd/{fd}/."
    os.close(fd)


@pytest.mark.fuse
def test_a_mount_holds_what_it_shows(store, mount, folder):
    tree = make_tree(folder / "tree", 1)
    store.add(tree)
    store.add(make_tree(folder / "other", 2))
    m = mount(store)
    with entered(m / "tree") as inside:
        store.cairn("roots", "remove", "tree", "other")
        said = gc(store)
        # The other one was never looked at.
        assert (said["blobs"], said["live"]) == (62, 70)
        assert_same_tree(inside, tree)
    m.stop()
    assert gc(store)["blobs"] == 62


def nix_import(store, path, *args):
    return store.cairn("nix", "import", *args, path).out.strip()


def test_store_paths(store, folder):
    paths = {}
    for name in ("base", "app", "lone", "named"):
        tree = make_tree(folder / name, 1)
        reference = ["--reference", paths["base"]] if name == "app" else []
        paths[name] = nix_import(store, tree, *reference)

    def left():
        return {v["path"] for v in store.cairn("nix", "path-info", "--json", "--all").json()}

    assert gc(store)["freed_bytes"] == 0
    store.cairn("roots", "add", os.path.basename(paths["named"]), paths["named"])
    (folder / "list").write_text(paths["app"] + "\n", encoding="ascii")
    would = gc(store, "--dry-run", "--paths=roots", "--paths-from", folder / "list")
    assert (would["paths_kept"], would["paths_removed"]) == (3, 1)
    assert left() == set(paths.values())
    assert gc(store, "--paths=none", "--paths-within=1h")["paths_removed"] == 0
    said = gc(store, "--paths=roots", "--paths-from", folder / "list")
    assert (said["paths_removed"], said["blobs"]) == (1, would["blobs"])
    assert left() == {paths[name] for name in ("base", "app", "named")}
    assert gc(store, "--paths=roots")["paths_removed"] == 2
    assert left() == {paths["named"]}
    assert gc(store, "--paths=none")["blobs"] == 0
    assert left() == set()
    store.cairn("fsck", "--read-data")


def test_killed_at_any_point(store, folder):
    """Whatever it had done by then, the store is right, and the next one does the rest."""
    kept = make_tree(folder / "kept", 99)
    store.add(kept)
    for i in range(int(os.environ.get("CAIRN_TEST_GC_KILLS", "8"))):
        tree = make_tree(folder / f"tree{i}", i, 5)
        store.add(tree)
        store.cairn("roots", "remove", tree.name)
        with subprocess.Popen([CAIRN, "--store", store.path, "gc", "-q"], env=environment(),
                              stdout=subprocess.DEVNULL) as process:
            time.sleep(0.003 * (i % 12))
            process.kill()
    gc(store)
    store.cairn("fsck", "--read-data")
    store.cairn("export", "kept", folder / "out")
    assert_same_tree(folder / "out", kept)
    store.cairn("roots", "remove", "kept")
    gc(store)
    assert used(store) < 10_000
