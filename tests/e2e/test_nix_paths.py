"""What is known of store paths: listing, signing, verifying and removing them."""
import base64
import hashlib
import os
import stat

import pytest

from harness import CAIRN, pattern, run, write
from nix_paths import StorePath


@pytest.fixture
def chain(store, folder):
    """Three paths, each referring to the one before it and to itself; and one that stands alone."""
    paths = []
    for name in ("lib", "tool", "script"):
        path = StorePath(write(folder / f"trees/{name}", name * 100), name, paths[-1:])
        path.references.append(path)
        paths.append(path.put(store))
    alone = StorePath(write(folder / "trees/alone/file", pattern(300000)).parent, "alone").put(store)
    return [*paths, alone]


@pytest.fixture
def key(folder):
    """(file of the secret key, public key)"""
    path = folder / "secret"
    return path, run([CAIRN, "nix", "generate-key", "test-1", path]).out.strip()


def infos(store, *args):
    return {v["path"]: v for v in store.cairn("nix", "path-info", "--json", *args).json()}


# ---- path-info ----

def test_all(store, chain):
    out = store.cairn("nix", "path-info", "--all").out
    assert out.splitlines() == sorted(p.path for p in chain)


def test_recursive(store, chain):
    lib, tool, script, _ = chain
    for options in (["-r"], ["--recursive"]):
        out = store.cairn("nix", "path-info", *options, script.path).out
        assert out.splitlines() == [lib.path, tool.path, script.path]
    out = store.cairn("nix", "path-info", "-r", tool.base, script.path, tool.path).out
    assert out.splitlines() == [lib.path, tool.path, script.path]


def test_columns(store, chain):
    lib, tool, script, _ = chain
    closure = sum(len(p.nar) for p in (lib, tool, script))
    out = store.cairn("nix", "path-info", "-s", "-S", script.path, lib.path).out
    assert out == (f"{script.path}\t{len(script.nar)}\t{closure}\n"
                   f"{lib.path}\t{len(lib.nar)}\t{len(lib.nar)}\n")


def test_json(store, chain):
    lib, tool, script, alone = chain
    digest = store.add(alone.tree)["digest"]
    found = infos(store, "--all", "-S")
    assert set(found) == {p.path for p in chain}
    for path in chain:
        info = found[path.path]
        assert info["narSize"] == len(path.nar)
        assert info["narHash"] == "sha256-" + base64.b64encode(path.sha256).decode()
        assert info["references"] == sorted(r.path for r in path.references)
        assert not info.keys() & {"ca", "deriver", "signatures", "valid"}
    assert found[tool.path]["closureSize"] == len(lib.nar) + len(tool.nar)
    assert found[alone.path]["kind"] == "directory"
    assert found[alone.path]["digest"] == digest
    assert "closureSize" not in infos(store, lib.path)[lib.path]


def test_json_is_one_array(store, chain, folder):
    out = store.cairn("nix", "path-info", "--json", "--all").out
    assert out.startswith("[") and out.endswith("]\n")
    assert out.count("[") == 1 + len(chain)
    empty = folder / "empty"
    run([CAIRN, "--store", empty, "import", chain[0].tree, "--name", "x"])
    assert run([CAIRN, "--store", empty, "nix", "path-info", "--json", "--all"]).out == "[]\n"


def test_absent(store, chain):
    lib = chain[0]
    absent = "/nix/store/" + "0" * 32 + "-absent"
    renamed = lib.path + "-x"
    for path in (absent, renamed):
        result = store.cairn("nix", "path-info", lib.path, path, check=False)
        assert result.code == 3
        assert path in result.err
        found = infos(store, lib.path, path)
        assert found[path] == {"path": path, "valid": False}
        assert found[lib.path]["narSize"]
        assert store.cairn("nix", "path-info", "-r", path, check=False).code == 3


def test_reference_that_is_missing(store, folder):
    gone = StorePath(write(folder / "gone", "gone"), "gone")
    path = StorePath(write(folder / "here", "here"), "here", [gone]).put(store)
    assert infos(store, path.path)[path.path]["references"] == [gone.path]
    for option in ("-r", "-S"):
        result = store.cairn("nix", "path-info", option, path.path, check=False)
        assert result.code == 3
        assert gone.path in result.err and path.path in result.err


def test_circle(store, folder):
    """Nix has none, but nothing here may hang or count twice."""
    one = StorePath(write(folder / "one", "one"), "one")
    two = StorePath(write(folder / "two", "two"), "two", [one])
    one.references.append(two)
    one.put(store)
    two.put(store)
    out = store.cairn("nix", "path-info", "-r", "-S", one.path).out
    total = len(one.nar) + len(two.nar)
    assert sorted(out.splitlines()) == sorted(f"{p.path}\t{total}" for p in (one, two))


@pytest.mark.parametrize("args", [[], ["--all", "x"], ["-x"]], ids=" ".join)
@pytest.mark.parametrize("command", ["path-info", "verify"])
def test_usage(store, chain, command, args):
    result = store.cairn("nix", command, *args, check=False)
    assert result.code == 2
    assert "--help" in result.err


@pytest.mark.parametrize("path", ["x", "/nix/store/x", "/nix/store/", "/gnu/store/" + "0" * 32 + "-x",
                                  "e" * 32 + "-x", "0" * 32 + "-", "0" * 32 + "-x/y",
                                  "/nix/store/" + "0" * 32 + "-x/", "0" * 32 + "-" + "x" * 212, ""])
def test_bad_paths(store, chain, path):
    for command in ("path-info", "verify", "remove"):
        result = store.cairn("nix", command, path, check=False)
        assert result.code == 2, result
        assert result.out == ""


def test_missing_store(folder):
    result = run([CAIRN, "--store", folder / "missing", "nix", "path-info", "--all"], check=False)
    assert result.code == 3
    assert not (folder / "missing").exists()


# ---- Keys and signatures ----

def test_generate_key(folder, key):
    path, public = key
    name, value = public.split(":")
    assert name == "test-1"
    assert len(base64.b64decode(value)) == 32
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    secret = base64.b64decode(path.read_text().split(":")[1])
    assert len(secret) == 64
    assert secret[32:] == base64.b64decode(value)
    assert run([CAIRN, "nix", "generate-key", "--public", path]).out.strip() == public
    # Never over another one.
    before = path.read_bytes()
    assert run([CAIRN, "nix", "generate-key", "test-1", path], check=False).code == 6
    assert path.read_bytes() == before


def test_generate_key_to_output(folder):
    path = write(folder / "secret", run([CAIRN, "nix", "generate-key", "k"]).raw)
    assert run([CAIRN, "nix", "generate-key", "--public", path]).out.startswith("k:")
    for bad in ("", "a:b", "a b"):
        assert run([CAIRN, "nix", "generate-key", bad], check=False).code == 2
    assert run([CAIRN, "nix", "generate-key", "--public", folder / "none"], check=False).code == 3
    assert run([CAIRN, "nix", "generate-key", "--public", write(folder / "odd", "odd")],
               check=False).code == 2


def signatures(store, path):
    return infos(store, path.path)[path.path].get("signatures", [])


def test_sign(store, chain, key, folder):
    path, public = key
    lib, tool, script, alone = chain
    store.cairn("nix", "sign", "--key-file", path, "-r", tool.path)
    for p, signed in ((lib, 1), (tool, 1), (script, 0), (alone, 0)):
        assert len(signatures(store, p)) == signed
    first = signatures(store, lib)
    assert first[0].startswith("test-1:")
    # Again: it is the same one. By another key of that name: that one only.
    store.cairn("nix", "sign", "-k", path, "--all")
    assert signatures(store, lib) == first
    assert all(len(signatures(store, p)) == 1 for p in chain)
    other = folder / "other"
    run([CAIRN, "nix", "generate-key", "test-1", other])
    store.cairn("nix", "sign", "-k", other, lib.path)
    assert len(signatures(store, lib)) == 1
    assert signatures(store, lib) != first
    third = folder / "third"
    run([CAIRN, "nix", "generate-key", "test-2", third])
    store.cairn("nix", "sign", "-k", third, lib.path)
    assert len(signatures(store, lib)) == 2
    assert len(store.cairn("nix", "path-info", "--sigs", lib.path).out.split("\t")) == 3


def test_sign_faults(store, chain, key, folder):
    path, _ = key
    absent = "/nix/store/" + "0" * 32 + "-absent"
    assert store.cairn("nix", "sign", "-k", path, absent, check=False).code == 3
    assert store.cairn("nix", "sign", "-k", folder / "none", "--all", check=False).code == 3
    assert store.cairn("nix", "sign", "--all", check=False).code == 2
    assert store.cairn("nix", "sign", "-k", path, check=False).code == 2
    # None of them, when one is not there.
    assert store.cairn("nix", "sign", "-k", path, chain[0].path, absent, check=False).code == 3
    assert signatures(store, chain[0]) == []


# ---- verify ----

def test_verify(store, chain, key):
    path, public = key
    result = store.cairn("nix", "verify", "--no-trust", "--all")
    assert result.out == "4 paths checked, 0 corrupt, 0 unreadable, 0 untrusted\n"
    assert result.err == ""
    assert store.cairn("nix", "verify", "--all", check=False).code == 7
    store.cairn("nix", "sign", "-k", path, "--all")
    assert store.cairn("nix", "verify", "--all", check=False).code == 7
    store.cairn("nix", "verify", "--trusted-public-keys", public, "--all")
    values = store.cairn("nix", "verify", "--trusted-public-keys", public, "--all", "--json").json()
    assert {v["path"] for v in values} == {p.path for p in chain}
    assert all(v["contents"] == "ok" and v["trust"] == "ok" and v["goodSignatures"] == 1
               for v in values)


def test_verify_needs_signatures(store, chain, key, folder):
    path, public = key
    store.cairn("nix", "sign", "-k", path, "--all")
    keys = ["--trusted-public-keys", public]
    store.cairn("nix", "verify", "--all", *keys, "-n", "1")
    assert store.cairn("nix", "verify", "--all", *keys, "-n", "2", check=False).code == 7
    second = run([CAIRN, "nix", "generate-key", "test-2", folder / "second"]).out.strip()
    store.cairn("nix", "sign", "-k", folder / "second", "--all")
    assert store.cairn("nix", "verify", "--all", *keys, "-n", "2", check=False).code == 7
    store.cairn("nix", "verify", "--all", "--trusted-public-keys", f"{public}  {second}", "-n", "2")
    store.cairn("nix", "verify", "--all", *keys, "--trusted-public-keys", second, "-n", "2")
    # Another key of the same name made no signature here.
    other = run([CAIRN, "nix", "generate-key", "test-1", folder / "other"]).out.strip()
    assert store.cairn("nix", "verify", "--all", "--trusted-public-keys", other,
                       check=False).code == 7


def test_verify_signature_of_other_info(store, chain, key, folder):
    """A signature is of the hash, size and references that are known, not of the path alone."""
    path, public = key
    lib = chain[0]
    store.cairn("nix", "sign", "-k", path, lib.path)
    keys = ["--trusted-public-keys", public, "--no-contents"]
    store.cairn("nix", "verify", lib.path, *keys)
    # Put anew, the info has no signature.
    lib.put(store, size=len(lib.nar) + 8)
    assert store.cairn("nix", "verify", lib.path, *keys, check=False).code == 7


def test_verify_wrong_hash(store, chain):
    lib, tool, _, alone = chain
    alone.put(store, sha256=hashlib.sha256(b"other").digest())
    tool.put(store, size=len(tool.nar) + 8)
    result = store.cairn("nix", "verify", "--no-trust", "--all", check=False)
    assert result.code == 4
    assert "2 corrupt" in result.out
    assert alone.path in result.err and tool.path in result.err
    assert lib.path not in result.err
    assert len(result.err.splitlines()) == 2
    store.cairn("nix", "verify", "--no-trust", "--no-contents", "--all")
    store.cairn("nix", "verify", "--no-trust", lib.path)
    assert store.cairn("nix", "verify", "--no-trust", "-r", chain[2].path, check=False).code == 4


def test_verify_damaged_blob(store, chain):
    alone = chain[3]
    files = [p for p in (store.path / "files").rglob("*") if p.is_file()]
    assert len(files) == 1
    files[0].chmod(0o644)
    with open(files[0], "r+b") as f:
        f.seek(100000)
        f.write(b"damaged")
    result = store.cairn("nix", "verify", "--no-trust", "--json", "--all", check=False)
    assert result.code == 4
    found = {v["path"]: v["contents"] for v in result.json()}
    assert found.pop(alone.path) == "corrupt"
    assert set(found.values()) == {"ok"}


def test_verify_missing_blob(store, chain):
    alone = chain[3]
    for file in (store.path / "files").rglob("*"):
        if file.is_file():
            file.unlink()
    result = store.cairn("nix", "verify", "--no-trust", "--json", "--all", check=False)
    assert result.code in (4, 5)
    found = {v["path"]: v["contents"] for v in result.json()}
    assert found.pop(alone.path) in ("corrupt", "unreadable")
    assert set(found.values()) == {"ok"}


def test_verify_absent(store, chain):
    absent = "/nix/store/" + "0" * 32 + "-absent"
    result = store.cairn("nix", "verify", "--no-trust", absent, check=False)
    assert result.code == 3
    assert absent in result.err


def test_verify_bad_keys(store, chain):
    for bad in ("x", "x:y", "a:" + "A" * 43):
        assert store.cairn("nix", "verify", "--all", "--trusted-public-keys", bad,
                           check=False).code == 2
    assert store.cairn("nix", "verify", "--all", "-n", "0", check=False).code == 2


# ---- remove ----

def test_remove(store, chain):
    lib, tool, script, alone = chain
    store.cairn("nix", "remove", alone.path)
    assert set(infos(store, "--all")) == {lib.path, tool.path, script.path}
    assert store.cairn("ls", alone.path, check=False).code == 3
    assert store.cairn("nix", "remove", alone.path, check=False).code == 3
    # What others refer to stays; a path may refer to itself.
    result = store.cairn("nix", "remove", lib.path, script.path, check=False)
    assert result.code == 7
    assert lib.path in result.err and tool.path in result.err
    assert len(infos(store, "--all")) == 3
    store.cairn("nix", "remove", lib.path, script.base, tool.path)
    assert infos(store, "--all") == {}
    alone.put(store)
    assert set(infos(store, "--all")) == {alone.path}


def test_remove_all_or_none(store, chain):
    absent = "/nix/store/" + "0" * 32 + "-absent"
    assert store.cairn("nix", "remove", chain[3].path, absent, check=False).code == 3
    assert len(infos(store, "--all")) == 4


def test_remove_ignoring_references(store, chain):
    lib, tool, _, _ = chain
    store.cairn("nix", "remove", "--ignore-references", lib.path)
    assert lib.path not in infos(store, "--all")
    result = store.cairn("nix", "path-info", "-r", tool.path, check=False)
    assert result.code == 3
    assert store.cairn("nix", "remove", "--ignore-references", lib.path, check=False).code == 3


def test_removed_in_a_mount(store, chain, mount):
    alone = chain[3]
    m = mount(store, "--nix")
    assert alone.base in os.listdir(m.path)
    store.cairn("nix", "remove", alone.path)
    assert alone.base not in os.listdir(m.path)


def test_memory_store():
    for command in ("path-info", "verify"):
        assert run([CAIRN, "--store", "memory://", "nix", command, "--all"]).code == 0
