"""cairn du: what trees cost, against the files that they are made of and the store's folder."""
import pytest

from harness import BIG, HELPERS, Store, cairn, make_sample, pattern, run, write

PACK_HEADER = 64


def du(store, *args, **kw):
    """{path: figures}, the total under None."""
    values = store.cairn("du", "--json", *args, **kw).json()
    return {value.get("path"): value for value in values}


def stored_on_disk(store):
    """Bytes of packs and large files, which all belongs to some object or change of a name."""
    packs = [path.stat().st_size - PACK_HEADER for path in (store.path / "packs").iterdir()]
    files = [path.stat().st_size for path in (store.path / "files").rglob("*") if path.is_file()]
    return sum(packs), sum(files)


@pytest.fixture
def pair(store, source):
    """Two trees that share a large file, a small one and a directory, and have one each."""
    for name in ("left", "right"):
        write(source / name / "shared/large", pattern(1 << 20, 3))
        write(source / name / "shared/again", pattern(5000, 4))
        write(source / name / "same", pattern(5000, 4))
        write(source / name / "own", pattern(200_000, 10 + len(name)))
    for name in ("left", "right"):
        store.add(source / name, name)
    return source


def test_figures(store, pair):
    found = du(store)
    assert set(found) == {"left", "right", None}
    for name in ("left", "right"):
        f = found[name]
        assert f["size"] == (1 << 20) + 5000 + 5000 + 200_000
        assert f["objects"] == 5
        # Its own file and the directory above it.
        assert f["only_objects"] == 2
        assert 0 < f["distinct"] - ((1 << 20) + 5000 + 200_000) < 400
        assert f["stored"] == f["shared"] + f["only"]
        assert f["missing"] == 0
    total = found[None]
    assert total["total"]
    assert total["size"] == found["left"]["size"] + found["right"]["size"]
    assert total["objects"] == 7
    assert total["stored"] == total["only"]
    shared = found["left"]["shared"]
    assert shared == found["right"]["shared"]
    assert total["only"] == found["left"]["only"] + found["right"]["only"] + shared


def test_room_on_disk(store, pair):
    """All that the packs hold is counted, but the changes of names."""
    packs, files = stored_on_disk(store)
    stored = du(store)[None]["stored"]
    assert files == 1 << 20
    assert 0 < packs + files - stored < 2 * 200
    assert stored <= store.disk_usage()


def test_what_removing_frees(store, pair):
    """What only one tree has is what a store takes more for having it."""
    alone = Store(store.path.parent / "alone")
    alone.add(pair / "right", "right")
    before = sum(stored_on_disk(alone))
    alone.add(pair / "left", "left")
    grown = sum(stored_on_disk(alone)) - before
    assert 0 <= grown - du(alone, "left")["left"]["only"] < 200


def test_compression_counts(store, source):
    write(source / "text/file", b"the same line again and again\n" * 5000)
    store.add(source / "text", "text")
    f = du(store)["text"]
    assert f["size"] == 150_000
    assert f["stored"] < 5000


def test_arguments(store, pair):
    found = du(store, "left")
    assert set(found) == {"left"}
    assert found["left"]["only_objects"] == 2
    both = du(store, "right", "left")
    assert list(both) == ["right", "left", None]
    found = du(store, "left/own", "left/shared/", "left/own")
    assert list(found) == ["left/own", "left/shared", None]
    assert found["left/own"]["size"] == found["left/own"]["distinct"] == 200_000
    assert found["left/own"]["only_objects"] == 1
    assert found["left/shared"]["only"] == 0
    # Asked about together with what is in it, a tree costs the same.
    nested = du(store, "left", "left/own")
    assert nested["left"]["only"] == du(store, "left")["left"]["only"]
    assert nested["left/own"]["only"] == found["left/own"]["only"]


def test_without_a_name(store, pair):
    digest = store.roots()["left"]["digest"]
    store.cairn("roots", "remove", "left")
    found = du(store, digest)
    assert found[digest]["objects"] == 5
    assert found[digest]["only_objects"] == 2
    store.cairn("roots", "remove", "right")
    assert du(store, f"{digest}/own")[f"{digest}/own"]["only_objects"] == 1
    assert du(store, digest)[digest]["only_objects"] == 5


def test_depth(store, source):
    make_sample(source / "sample")
    store.add(source / "sample", "sample")
    found = du(store, "sample", "-d1")
    assert list(found)[-1] == "sample"
    assert set(found) == {"sample", *(f"sample/{name}" for name in ("sub", "one", "two", "nothing"))}
    assert found["sample/one"]["size"] == len("in both\nleaf\n")
    assert found["sample/one"]["only"] == 0
    assert found["sample"]["size"] > len(BIG)
    deep = du(store, "sample", "--max-depth=9")
    assert list(deep).index("sample/sub/a/b/c") < list(deep).index("sample/sub/a/b")
    for path, f in found.items():
        assert deep[path] == f


def test_text(store, pair):
    lines = store.cairn("du", "left").out.splitlines()
    assert lines[0].split() == ["SIZE", "DISTINCT", "STORED", "SHARED", "ONLY", "OBJECTS", "NAME"]
    f = du(store, "left")["left"]
    keys = ("size", "distinct", "stored", "shared", "only", "objects")
    assert lines[1].split() == [*(str(f[key]) for key in keys), "left"]
    assert len(lines) == 2
    human = store.cairn("du", "--human", "left").out.splitlines()[1]
    assert "1.2 MiB" in human
    assert store.cairn("du", "--human", "-b", "left").out.splitlines() == lines
    assert store.cairn("du", "-0").raw.count(b"\0") == 3


def test_empty_store(store):
    write(store.path.parent / "file", "x")
    store.add(store.path.parent / "file", "file")
    store.cairn("roots", "remove", "file")
    assert du(store) == {}


def test_faults(store, pair):
    assert store.cairn("du", "nobody", check=False).code == 3
    assert store.cairn("du", "-d", "x", check=False).code == 2


def test_not_complete(store):
    """What cannot be found is counted, and the exit code tells."""
    run([HELPERS / "broken_store", store.path])
    result = store.cairn("du", "--json", check=False)
    assert result.code == 5
    assert "2 objects" in result.err
    assert result.json()[-1]["missing"] == 2


def test_elsewhere(store, pair, serve):
    """Of a store that cannot tell what it takes, everything else."""
    address = serve(store, "--list").address
    found = {value.get("path"): value for value in
             cairn("--store", address, "du", "--json").json()}
    here = du(store)
    assert "stored" not in found["left"]
    assert found["left"]["distinct"] == here["left"]["distinct"]
    assert found["left"]["only_objects"] == 2
    assert "STORED" not in cairn("--store", address, "du").out
