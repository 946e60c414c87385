"""cairn nix copy: store paths of a Nix store on this disk, by what Nix tells of them.

The Nix store is made by hand: a folder with nix/store in it.
"""
import base64
import hashlib
import json
import os
import signal

import pytest

import nars

from harness import CAIRN, assert_same_tree, environment, pattern, start, wait_until, write
from nix_paths import nixbase32


def sri(digest):
    return "sha256-" + base64.b64encode(digest).decode()


class NixStore:
    """Paths with what is known of them, as the JSON of Nix has it."""

    def __init__(self, root):
        self.root = root
        self.infos = {}
        (root / "nix/store").mkdir(parents=True)

    def add(self, name, content, references=(), **more):
        """content(path) makes the tree."""
        digest = hashlib.sha1(f"{len(self.infos)} {name}".encode()).digest()
        path = f"/nix/store/{nixbase32(digest)}-{name}"
        content(self.on_disk(path))
        data = nars.of_tree(self.on_disk(path))
        self.infos[path] = {"narHash": sri(hashlib.sha256(data).digest()), "narSize": len(data),
                            "references": [path if r == "self" else r for r in references],
                            **more}
        return path

    def on_disk(self, path):
        return self.root / path[1:]

    def list(self, paths=None):
        """What `nix path-info --json` printed first, and exportReferencesGraph gives."""
        return [{"path": p, **self.infos[p]} for p in paths or self.infos]

    def write(self, graph, name="graph.json"):
        return write(self.root.parent / name, json.dumps(graph))


@pytest.fixture
def nix(folder):
    """A chain (script -> tool -> lib), the last with itself, and one alone."""
    made = NixStore(folder / "root")

    def lib(path):
        write(path / "lib/lib.so", pattern(300000), 0o755)
        (path / "lib/lib.so.1").symlink_to("lib.so")
        write(path / "share/self", os.fspath(path))

    made.lib = made.add("lib-1.0", lib, ["self"])
    made.tool = made.add("tool", lambda p: write(p / "bin/tool", made.lib, 0o755), [made.lib])
    made.script = made.add("script", lambda p: write(p, f"#!{made.tool}/bin/tool\n", 0o755),
                           [made.tool, made.lib])
    made.alone = made.add("alone", lambda p: p.symlink_to("/nowhere"))
    return made


def copy(store, nix, *args, **kw):
    return store.cairn("nix", "copy", "--from-store", nix.root, *args, **kw)


def known(store):
    return {v["path"]: v for v in store.cairn("nix", "path-info", "--all", "--json").json()}


def as_closure(nix):
    # Nix writes hashes in base 32 here, and more sizes.
    paths = [{**p, "closureSize": 1,
              "narHash": "sha256:" + nixbase32(base64.b64decode(p["narHash"][7:]))}
             for p in nix.list()]
    return {"builder": "/bin/sh", "outputs": {"out": "x"}, "closure": paths, "other": []}


def as_object(nix):
    return {p: {"ca": None, "deriver": None, "registrationTime": 1, "signatures": [],
                "ultimate": True, **info} for p, info in nix.infos.items()}


@pytest.mark.parametrize("form", [NixStore.list, as_closure, as_object],
                         ids=["list", "closure", "object"])
def test_forms(store, nix, folder, form):
    result = copy(store, nix, nix.write(form(nix)))
    assert result.out == "4 paths copied, 0 were there already\n"
    infos = known(store)
    assert set(infos) == set(nix.infos)
    for path, info in nix.infos.items():
        for key in ("narHash", "narSize"):
            assert infos[path][key] == info[key]
        assert infos[path]["references"] == sorted(info["references"])
        assert "ca" not in infos[path] and "deriver" not in infos[path]
    store.cairn("nix", "verify", "--all", "--no-trust")
    store.cairn("export", nix.lib, folder / "out")
    assert_same_tree(nix.on_disk(nix.lib), folder / "out")
    assert store.roots() == {}


def test_order_does_not_matter(store, nix):
    graph = nix.list([nix.script, nix.lib, nix.alone, nix.tool])
    assert copy(store, nix, nix.write(graph)).out.startswith("4 paths copied")


def test_key(store, nix):
    graph = {"closure": nix.list([nix.alone]), "other": nix.list([nix.lib])}
    file = nix.write(graph)
    copy(store, nix, "--key", "other", file)
    assert set(known(store)) == {nix.lib}
    copy(store, nix, file)
    assert set(known(store)) == {nix.lib, nix.alone}
    result = copy(store, nix, "--key", "third", file, check=False)
    assert result.code == 4
    assert "third" in result.err and file.name in result.err


def test_standard_input(store, nix):
    graph = json.dumps(nix.list()).encode()
    assert copy(store, nix, "-", input=graph).out.startswith("4 paths copied")


def test_many_graphs(store, nix):
    files = [nix.write(nix.list([nix.tool, nix.lib]), "1"),
             nix.write(nix.list([nix.script, nix.lib]), "2")]
    assert copy(store, nix, *files).out == "3 paths copied, 0 were there already\n"
    # What two graphs say of a path is the same.
    changed = nix.list([nix.lib])
    changed[0]["narSize"] += 8
    result = copy(store, nix, files[0], nix.write(changed, "3"), check=False)
    assert result.code == 4
    assert nix.lib in result.err


def test_what_else_is_known(store, nix):
    signature = base64.b64encode(bytes(range(64))).decode()
    deriver = f"/nix/store/{nixbase32(bytes(20))}-lib.drv"
    graph = nix.list([nix.lib])
    graph[0].update(signatures=[f"key-1:{signature}"], deriver=deriver, ultimate=True)
    copy(store, nix, nix.write(graph))
    info = known(store)[nix.lib]
    assert info["signatures"] == [f"key-1:{signature}"]
    assert info["deriver"] == deriver


def test_content_address(store, nix, sample):
    """A right one is kept, and the path needs no signature then; a wrong one is refused."""
    other = type(store)(store.path.parent / "other")
    value, = other.cairn("nix", "import", "--json", sample).json()
    os.rename(sample, nix.on_disk(value["path"]))
    good = {k: value[k] for k in ("path", "narHash", "narSize", "references", "ca")}
    copy(store, nix, nix.write([good]))
    assert known(store)[value["path"]]["ca"] == value["ca"]
    store.cairn("nix", "verify", value["path"])
    wrong = {**nix.list([nix.alone])[0], "ca": value["ca"]}
    result = copy(store, nix, nix.write([wrong]), check=False)
    assert result.code == 4
    assert nix.alone in result.err and "content address" in result.err


def test_again(store, nix):
    file = nix.write(nix.list())
    copy(store, nix, nix.write(nix.list([nix.lib]), "lib.json"))
    values = {v["path"]: v for v in copy(store, nix, "--json", file).json()}
    assert {p: v["copied"] for p, v in values.items()} == {
        nix.lib: False, nix.tool: True, nix.script: True, nix.alone: True}
    infos = known(store)
    for path, value in values.items():
        del value["copied"]
        assert value == infos[path]
    # What is there is not looked at again, even where it is gone.
    os.unlink(nix.on_disk(nix.alone))
    assert copy(store, nix, file).out == "0 paths copied, 4 were there already\n"
    graph = nix.list([nix.lib])
    graph[0]["narHash"] = nix.infos[nix.tool]["narHash"]
    result = copy(store, nix, nix.write(graph), check=False)
    assert result.code == 4
    assert nix.lib in result.err


@pytest.mark.parametrize("change", ["hash", "size", "content", "mode", "name", "gone"])
def test_tree_that_is_not_as_told(store, nix, change):
    """Nothing that refers to it is there either; what does not, is."""
    graph = nix.list()
    tool = graph[1]
    binary = nix.on_disk(nix.tool) / "bin/tool"
    if change == "hash":
        tool["narHash"] = sri(bytes(32))
    elif change == "size":
        tool["narSize"] += 8
    elif change == "content":
        binary.write_text("x" * len(nix.lib))
    elif change == "mode":
        binary.chmod(0o644)
    elif change == "name":
        binary.rename(binary.parent / "told")
    else:
        binary.unlink()
        binary.parent.rmdir()
        binary.parent.parent.rmdir()
    result = copy(store, nix, nix.write(graph), check=False)
    assert result.code == (3 if change == "gone" else 4)
    assert nix.tool in result.err
    assert not {nix.tool, nix.script} & set(known(store))
    for info in known(store).values():
        assert set(info["references"]) <= set(known(store))


def test_references_must_be_known(store, nix):
    file = nix.write(nix.list([nix.script]))
    result = copy(store, nix, file, check=False)
    assert result.code == 3
    assert nix.script in result.err
    assert nix.tool in result.err or nix.lib in result.err
    assert known(store) == {}
    copy(store, nix, nix.write(nix.list([nix.tool, nix.lib]), "rest.json"))
    assert copy(store, nix, file).out == "1 paths copied, 0 were there already\n"


BROKEN = {
    "no JSON": "{",
    "empty": "",
    "a number": "17",
    "key twice": '{"a": 1, "a": 2}',
    "behind it": "[] []",
    "not UTF-8": b'["\xff"]',
    "deep": "[" * 100000,
    "no path": '[{"narSize": 1}]',
    "no object": '["x"]',
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_broken_graphs(store, nix, text):
    file = write(nix.root.parent / "broken.json", text)
    result = copy(store, nix, file, check=False)
    assert result.code == 4, result
    assert "broken.json" in result.err
    assert not store.path.exists()


@pytest.mark.parametrize("key, value", [
    ("path", "/nix/store/x"), ("path", "/other/store/x"), ("path", 1), ("narHash", "sha256:x"),
    ("narHash", "sha1:" + "0" * 40), ("narHash", None), ("narSize", 0), ("narSize", -8),
    ("narSize", 1.5), ("narSize", "8"), ("narSize", 1 << 64), ("references", None),
    ("references", [1]), ("references", ["x"]), ("references", "twice"), ("signatures", ["x"]),
    ("signatures", 1), ("deriver", "x"), ("deriver", 1), ("ca", "x"), ("ca", 1),
    ("valid", False)], ids=str)
def test_broken_paths(store, nix, key, value):
    path = nix.list([nix.lib])[0]
    path[key] = [nix.lib, nix.lib] if value == "twice" else value
    result = copy(store, nix, nix.write([path]), check=False)
    assert result.code == 4, result
    assert "graph.json" in result.err
    if key != "path" and value != 1 << 64:
        assert nix.lib in result.err
    assert not store.path.exists()


def test_absent(store, nix, folder):
    result = copy(store, nix, folder / "absent.json", check=False)
    assert result.code == 3
    assert "absent.json" in result.err
    result = store.cairn("nix", "copy", "--from-store", folder / "elsewhere",
                         nix.write(nix.list()), check=False)
    assert result.code == 3
    assert "elsewhere" in result.err


def test_interrupted(store, nix):
    """What was complete stays; the next attempt takes up from there."""
    large = nix.on_disk(f"/nix/store/{nixbase32(bytes(20))}-large")
    write(large)
    with open(large, "r+b") as f:
        f.truncate(1 << 36)
    graph = nix.list()
    graph.append({"path": f"/nix/store/{large.name}", "narHash": sri(bytes(32)),
                  "narSize": (1 << 36) + 112, "references": []})
    process = start([CAIRN, "--store", store.path, "nix", "copy", "--from-store", nix.root,
                     nix.write(graph)], env=environment())
    wait_until(lambda: reads(process.pid, large), "reading")
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    infos = known(store)
    assert set(infos) <= set(nix.infos)
    for info in infos.values():
        assert set(info["references"]) <= set(infos)
    result = copy(store, nix, nix.write(nix.list()))
    assert result.out == f"{4 - len(infos)} paths copied, {len(infos)} were there already\n"


def reads(pid, path):
    folder = f"/proc/{pid}/fd"
    return any(os.path.realpath(os.path.join(folder, fd)) == os.fspath(path)
               for fd in os.listdir(folder))
