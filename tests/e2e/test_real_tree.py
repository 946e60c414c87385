"""A real tree of at least 20,000 files: what Debian has installed."""
import os
import pathlib
import shutil
import stat
import tempfile

import pytest

from harness import SLOW, Store, remove_tree, run

PLACES = ["/usr/share", "/usr/include", "/usr/lib/python3", "/usr/lib/gcc", "/usr/lib/llvm-14",
          "/usr/lib", "/usr/src"]
WANTED = 20_000
LARGEST = 4 << 20


def candidates():
    """Files and symlinks in a fixed order, without what is huge, odd or not ours to read."""
    for place in PLACES:
        for folder, folders, names in os.walk(place):
            folders.sort()
            for name in sorted(names):
                path = os.path.join(folder, name)
                try:
                    st = os.lstat(path)
                except OSError:
                    continue
                if stat.S_ISLNK(st.st_mode):
                    yield path, st
                elif stat.S_ISREG(st.st_mode) and st.st_size <= LARGEST and os.access(
                        path, os.R_OK):
                    yield path, st


def copy_normalised(top):
    """Copies until there is enough, with the modes that a store shows."""
    seen, files = set(), 0
    for path, st in candidates():
        target = top + path
        if path in seen:
            continue
        seen.add(path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if stat.S_ISLNK(st.st_mode):
            os.symlink(os.readlink(path), target)
            continue
        shutil.copyfile(path, target)
        os.chmod(target, 0o555 if st.st_mode & 0o100 else 0o444)
        files += 1
        if files >= WANTED + 500:
            break
    for folder, _, _ in os.walk(top, topdown=False):
        os.chmod(folder, 0o555)
    return files


@pytest.fixture(scope="module")
def real():
    """(tree, store, what the import said), shared by the tests below."""
    base = pathlib.Path(tempfile.mkdtemp(prefix="cairn-real-"))
    tree = base / "tree"
    try:
        assert copy_normalised(str(tree)) >= WANTED, "too little is installed here"
        store = Store(base / "store")
        said = store.add(tree, "tree")
        yield tree, store, said
    finally:
        for folder, _, _ in os.walk(base):
            os.chmod(folder, 0o700)
        remove_tree(base)


def test_count(real):
    _, _, said = real
    assert said["files"] >= WANTED


def test_diff(real, mount):
    tree, store, _ = real
    result = run(["diff", "-r", "--no-dereference", tree, mount(store) / "tree"], timeout=600)
    assert result.out == ""


def test_rsync(real, mount):
    """Contents by checksum, modes, symlinks; nothing to transfer, nothing to delete."""
    tree, store, _ = real
    m = mount(store)
    result = run(["rsync", "-rlpc", "--delete", "--dry-run", "--itemize-changes", f"{tree}/",
                  f"{m.path}/tree/"], timeout=600)
    # Linux gives every symlink 0777 and lets nobody change it; a mount shows 0444.
    lines = [line for line in result.out.splitlines() if not line.startswith(".L...p..... ")]
    assert lines == []


def test_export_and_import_again(real, folder):
    tree, store, said = real
    store.cairn("export", "tree", folder / "out", timeout=600)
    result = run(["diff", "-r", "--no-dereference", tree, folder / "out"], timeout=600)
    assert result.out == ""
    assert store.add(folder / "out", "again")["digest"] == said["digest"]
    assert store.add(tree, "tree", "--no-cache")["digest"] == said["digest"]


def test_fresh_store_gives_the_same_digest(real, folder):
    tree, _, said = real
    assert Store(folder / "fresh").add(tree, "other", "--threads=1")["digest"] == said["digest"]


def anonymous_memory(process):
    """Bytes of memory that the daemon has for itself."""
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines()
                    if line.startswith("RssAnon")).split()[1]) * 1024


@pytest.mark.root
@pytest.mark.skipif(SLOW > 1, reason="sanitizers have memory of their own")
def test_memory_comes_back(real, mount):
    """Walks that the kernel has forgotten leave nothing behind."""
    _, store, said = real
    m = mount(store)

    def walk_and_forget():
        lines = run(["find", m.path], timeout=600).out.count("\n")
        assert lines >= said["files"]
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("2", encoding="ascii")
        return anonymous_memory(m.process)

    first = walk_and_forget()
    last = [walk_and_forget() for _ in range(3)][-1]
    assert last - first < 2 << 20
