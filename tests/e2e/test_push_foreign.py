"""push, pull and mounts with a peer of somebody else's making: blobs, directories, path infos."""
import types

import pytest

from harness import Store, assert_same_tree, pattern, write
from nix_paths import StorePath

pytest.importorskip("grpc_tools", reason="no python3-grpc-tools")

from rpc_peer import Peer  # noqa: E402


@pytest.fixture(params=["tvix", "snix"])
def peer(request, folder):
    with Peer(f"unix:{folder}/peer", names=(request.param,)) as made:
        made.path = f"grpc+unix://{folder}/peer"
        yield made


def test_there_and_back(store, peer, sample, folder, mount):
    write(sample / "large", pattern(3_000_000, 5))
    tree = store.add(sample, "tree")["digest"]
    path = StorePath(sample / "sub", "path").put(store)
    store.cairn("push", "--to", peer.path, tree)
    store.cairn("push", "--to", peer.path, path.path)
    # Once more, and nothing is missing: such a peer is asked for each one.
    assert " 0 objects copied" in store.cairn("push", "--to", peer.path, tree).out
    # It has no names.
    failed = store.cairn("push", "--to", peer.path, "tree", check=False)
    assert failed.code == 1
    assert failed.err.strip()

    here = Store(folder / "here")
    here.cairn("pull", "--from", peer.path, tree, "--as", "tree")
    here.cairn("pull", "--from", peer.path, path.path)
    here.cairn("export", "tree", folder / "out")
    assert_same_tree(sample, folder / "out")
    assert here.cairn("nix", "verify", "--all", "--no-trust").code == 0
    every = Store(folder / "every").cairn("pull", "--from", peer.path, "--all")
    assert every.out.startswith("1 pulled")

    m = mount(types.SimpleNamespace(path=peer.path), f"--root={tree}")
    assert_same_tree(sample, m.path)
    m.stop()
    m = mount(types.SimpleNamespace(path=peer.path), "--nix")
    assert_same_tree(sample / "sub", m / path.base)


def test_sizes_as_others_count_them(store, peer, sample, folder):
    peer.counts_twice = True
    tree = store.add(sample, "tree")["digest"]
    refused = store.cairn("push", "--to", peer.path, tree, check=False)
    assert refused.code != 0
    assert "wrong size" in refused.err
    theirs = store.add(sample, "theirs", "--sizes=tvix")["digest"]
    assert theirs != tree
    store.cairn("push", "--to", peer.path, theirs)
    here = Store(folder / "here")
    here.cairn("pull", "--from", peer.path, theirs, "--as", "theirs")
    here.cairn("export", "theirs", folder / "out")
    assert_same_tree(sample, folder / "out")
    assert store.cairn("import", "--sizes=nobody", sample, check=False).code == 2
