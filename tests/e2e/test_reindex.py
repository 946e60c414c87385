"""A lost index is made again from the packs and files alone."""
import shutil

import pytest

from harness import Store, assert_same_tree, pattern, write
from nix_paths import StorePath


@pytest.fixture
def filled(store, sample):
    """Names that were put, replaced and removed; small blobs and large ones."""
    write(sample / "large", pattern(3 << 20))
    store.add(sample, "sample")
    store.add(sample / "one", "replaced")
    store.add(sample / "sub", "replaced", "--replace")
    store.add(sample / "two", "removed")
    store.cairn("roots", "remove", "removed")
    store.add(sample / "dangling", "link")
    return store


def lose_index(store):
    shutil.rmtree(store.path / "index")


def damage_index(store):
    path = store.path / "index/data.mdb"
    with open(path, "r+b") as f:
        f.write(b"\x5a" * 8192)


def check(store, before, sample, folder):
    assert store.roots() == before
    store.cairn("export", "sample", folder / "out")
    assert_same_tree(sample, folder / "out")
    # And the store takes new trees.
    store.add(sample / "one/below", "later")
    assert "later" in store.roots()


@pytest.mark.parametrize("harm", [lose_index, damage_index, None], ids=["lost", "damaged", "fine"])
def test_reindex(filled, sample, folder, harm):
    before = filled.roots()
    assert set(before) == {"sample", "replaced", "link"}
    if harm:
        harm(filled)
        assert filled.cairn("roots", check=False).code not in (0, 2)
    filled.cairn("reindex")
    check(filled, before, sample, folder)


def test_counts(filled):
    counts = filled.cairn("reindex", "--json").json()[0]
    assert counts["roots"] == 3
    assert counts["path_infos"] == 0
    assert counts["damaged_bytes"] == 0
    assert counts["blobs"] >= 7
    assert counts["directories"] >= 8


def test_path_infos(filled, sample):
    path = StorePath(sample, "sample").put(filled)
    before = filled.cairn("ls", path.path).out
    lose_index(filled)
    assert filled.cairn("reindex", "--json").json()[0]["path_infos"] == 1
    assert filled.cairn("ls", path.path).out == before


def test_not_while_in_use(filled, sample, mount):
    m = mount(filled)
    result = filled.cairn("reindex", check=False)
    assert result.code not in (0, 2)
    assert str(filled.path) in result.err
    assert (m / "sample/hello").read_text() == "hello\n"
    assert m.stop() == 0
    filled.cairn("reindex")


def test_missing_store(folder):
    result = Store(folder / "missing").cairn("reindex", check=False)
    assert result.code not in (0, 2)
    assert not (folder / "missing").exists()
