"""cairn stats: what a store consists of, against its folder and what was put into it."""
import pytest

from harness import HELPERS, cairn, pattern, run, write

LARGE = 1 << 20
SMALL = 5000


def stats(store):
    values = store.cairn("stats", "--json").json()
    assert len(values) == 1
    return values[0]


def folder_bytes(path):
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


@pytest.fixture
def filled(store, source):
    """Two trees of a large file, a text, an empty file and a small one, which they share."""
    for name in ("one", "two"):
        write(source / name / "large", pattern(LARGE, 3))
        write(source / name / "small", pattern(SMALL, 4))
        write(source / name / "own", f"{name}\n")
        write(source / name / "text", b"the same line again and again\n" * 1000)
        write(source / name / "empty")
        store.add(source / name, name)
    return store


def test_figures(filled):
    s = stats(filled)
    assert (s["roots"], s["path_infos"], s["missing"]) == (2, 0, 0)
    assert s["size"] == 2 * (LARGE + SMALL + 4 + 30_000)
    assert s["objects"] == 1 + 1 + 2 + 1 + 2
    assert s["distinct"] == LARGE + SMALL + 8 + 30_000 + s["directories_size"]
    assert (s["small_files_objects"], s["large_files_objects"], s["directories_objects"]) == (4, 1, 2)
    assert s["small_files_size"] == SMALL + 8 + 30_000
    assert s["large_files_size"] == s["plain_bytes"] == LARGE
    assert s["plain_files"] == 1
    assert s["stored"] == sum(s[f"{kind}_stored"] for kind in
                              ("small_files", "large_files", "directories"))
    assert s["deduplication"] == pytest.approx(
        s["size"] / (s["distinct"] - s["directories_size"]), abs=0.001)
    assert s["compression"] == pytest.approx(s["distinct"] / s["stored"], abs=0.001)
    assert s["unnamed_objects"] == s["unnamed_stored"] == 0
    assert s["tmp_files"] == s["quarantine_files"] == s["leases"] == 0


def test_room_on_disk(filled):
    s = stats(filled)
    assert s["pack_bytes"] == folder_bytes(filled.path / "packs")
    assert s["plain_bytes"] == folder_bytes(filled.path / "files")
    assert s["index_bytes"] <= (filled.path / "index/data.mdb").stat().st_size
    assert 0 <= s["index_free"] < s["index_bytes"]
    assert s["pack_live"] == s["pack_bytes"]
    assert s["pack_dead"] == 0


def test_what_nobody_names(filled):
    only = filled.cairn("du", "--json", "two").json()[0]
    before = stats(filled)
    filled.cairn("roots", "remove", "two")
    s = stats(filled)
    assert s["roots"] == 1
    assert s["unnamed_objects"] == only["only_objects"]
    assert s["unnamed_stored"] == only["only"]
    assert s["stored"] == before["stored"] - only["only"]
    # The name itself, and that it went.
    assert s["pack_dead"] + s["pack_live"] == s["pack_bytes"]
    assert 0 < s["pack_dead"] < 300
    gone = filled.cairn("gc", "--json").json()[0]
    assert gone["blobs"] + gone["directories"] == only["only_objects"]
    s = stats(filled)
    assert s["unnamed_objects"] == s["unnamed_stored"] == 0
    assert s["pack_live"] + s["pack_dead"] == s["pack_bytes"] == folder_bytes(filled.path / "packs")


def test_text(filled):
    lines = filled.cairn("stats", "-b").out.splitlines()
    s = stats(filled)
    found = {line[:14].strip(): line[15:] for line in lines}
    assert found["names"] == "2 trees, 0 store paths"
    assert found["size"] == str(s["size"])
    assert found["large files"].startswith(f"1, {LARGE}, stored in ")
    assert f"of which {s['index_free']} are free" in found["index"]
    assert "MiB" in filled.cairn("stats").out
    assert filled.cairn("stats", "argument", check=False).code == 2


def test_missing(store):
    run([HELPERS / "broken_store", store.path])
    assert stats(store)["missing"] == 2


def test_elsewhere(filled, serve):
    """Of a store that is no folder here, the trees."""
    address = serve(filled, "--list").address
    there = cairn("--store", address, "stats", "--json").json()[0]
    here = stats(filled)
    assert set(there) < set(here)
    assert all(here[key] == value for key, value in there.items())
    assert {"size", "distinct", "objects", "deduplication"} <= set(there)
    assert "packs" not in cairn("--store", address, "stats").out
