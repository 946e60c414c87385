"""The index of a store can be lost: `cairn reindex` makes it again."""
import harness


def test_lost_index(store, sample, folder):
    digest = store.add(sample, "tree")["digest"]
    for name in ("data.mdb", "lock.mdb"):
        (store.path / "index" / name).unlink()
    lost = store.cairn("ls", "tree", check=False)
    assert lost.code == 4 and "cairn reindex" in lost.err
    counts, = store.cairn("reindex", "--json").json()
    assert counts["roots"] == 1 and counts["blobs"] > 0 and counts["damaged_bytes"] == 0
    assert store.add(sample, "tree")["digest"] == digest
    store.cairn("export", "tree", folder / "out")
    harness.assert_same_tree(sample, folder / "out")


def test_not_while_in_use(store, sample, mount):
    store.add(sample, "tree")
    mounted = mount(store)
    refused = store.cairn("reindex", check=False)
    assert refused.code == 5 and "in use" in refused.err
    assert (mounted / "tree").is_dir()
