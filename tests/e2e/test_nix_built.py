"""
Paths that Nix has built: what its builds find of references, derivers and signatures is kept, and
are what cairn finds itself. A few builds only with sanitizers (CAIRN_TEST_SLOW above 1).
"""
import json
import shutil

import pytest

from harness import SLOW, TIMEOUT, write
from real_nix import Nix, needs_nix

BUSYBOX = shutil.which("busybox")
pytestmark = [
    needs_nix,
    # Builds for a store at another place are in name spaces.
    pytest.mark.root,
    pytest.mark.skipif(BUSYBOX is None, reason="no busybox: install busybox-static"),
]

COUNT = 40 if SLOW == 1 else 8

# Each has two outputs: one refers to itself, to one before by content and to one by a symlink, the
# other to the first. A third one before, unused, is in there with its hash cut in two: that is no
# reference.
EXPRESSION = """
let
  tools = builtins.storePath TOOLS;
  built = builtins.genList (n: derivation {
    name = "built-${toString n}";
    system = builtins.currentSystem;
    builder = "${tools}/bin/sh";
    outputs = [ "out" "doc" ];
    before = if n == 0 then "nothing" else (builtins.elemAt built (n - 1)).out;
    half = if n == 0 then "nothing" else (builtins.elemAt built (n / 2)).doc;
    unused = if n < 3 then "nothing" else (builtins.elemAt built (n - 3)).out;
    args = [ "-c" ''
      PATH=${tools}/bin
      busybox mkdir -p $out/bin $doc
      echo "#!${tools}/bin/sh" >$out/bin/run
      busybox chmod 755 $out/bin/run
      echo "$before $out" >$out/list
      busybox ln -s $half/text $out/link
      echo "$out ''${unused%%-*}" | busybox sed 's/\\(.\\{30\\}\\)$/ \\1/' >$doc/text
    '' ];
  }) COUNT;
in builtins.concatMap (d: [ d.out d.doc ]) built
"""


class World:
    """A store of Nix with built paths, signed by a key."""

    def __init__(self, folder):
        self.nix = Nix(folder / "nix")
        self.secret, self.public = folder / "secret", folder / "public"
        tools = folder / "tools"
        (tools / "bin").mkdir(parents=True)
        shutil.copy(BUSYBOX, tools / "bin/busybox")
        (tools / "bin/sh").symlink_to("busybox")
        path = self.nix.store("--add", tools).out.strip()
        expression = write(folder / "built.nix", EXPRESSION.replace("TOOLS", path)
                           .replace("COUNT", str(COUNT)))
        self.built = self.nix.run("nix-build", "--no-out-link", expression,
                                  timeout=4 * TIMEOUT).out.split()
        self.nix.store("--generate-binary-cache-key", "oracle-1", self.secret, self.public)
        self.nix.command("store", "sign", "--recursive", "--key-file", self.secret, *self.built)
        self.infos = {info["path"]: info for info in self.nix.path_info(*self.built)}

    def copy(self, store, infos):
        graph = write(store.path.parent / "graph.json", json.dumps(infos))
        store.cairn("nix", "copy", "--from-store", self.nix.root, graph, timeout=4 * TIMEOUT)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    made = World(tmp_path_factory.mktemp("built"))
    yield made
    made.nix.allow_removal()


@pytest.fixture
def unsigned(store, world):
    """The store, with what Nix has but for the signatures."""
    world.copy(store, [{k: v for k, v in info.items() if k != "signatures"}
                       for info in world.infos.values()])
    return store


def infos_of(store):
    return {v["path"]: v for v in store.cairn("nix", "path-info", "--all", "--json").json()}


def test_nix_built_what_is_meant(world):
    """Or the others would test nothing."""
    assert len(world.built) == 2 * COUNT
    for n in range(3, COUNT):
        out, doc = world.built[2 * n:2 * n + 2]
        references = set(world.infos[out]["references"])
        assert {out, world.built[2 * n - 2], world.built[n // 2 * 2 + 1]} < references
        assert world.infos[doc]["references"] == [out]
        assert world.infos[out]["deriver"].endswith(f"-built-{n}.drv")


def test_all_is_kept(store, world):
    world.copy(store, list(world.infos.values()))
    ours = infos_of(store)
    assert set(ours) == set(world.infos)
    for path, theirs in world.infos.items():
        for key in ("narHash", "narSize", "signatures", "deriver", "ca"):
            assert ours[path].get(key) == theirs.get(key), (path, key)
        assert ours[path]["references"] == sorted(theirs["references"]), path


def test_signatures_of_nix_are_good(store, world):
    world.copy(store, list(world.infos.values()))
    key = world.public.read_text().strip()
    values = store.cairn("nix", "verify", "--all", "--json", "--sigs-needed", "1",
                         "--trusted-public-keys", key, timeout=4 * TIMEOUT).json()
    assert {v["path"]: (v["contents"], v["trust"], v["goodSignatures"]) for v in values} == \
        {path: ("ok", "ok", 1) for path in world.infos}
    # By nobody else.
    other = store.cairn("nix", "generate-key", "oracle-1", store.path.parent / "other").out.strip()
    result = store.cairn("nix", "verify", "--no-contents", "--trusted-public-keys", other,
                         world.built[0], check=False)
    assert result.code == 7, result


def test_signatures_are_those_of_nix(unsigned, world):
    """With one key there is one signature of a path."""
    assert not any("signatures" in info for info in infos_of(unsigned).values())
    unsigned.cairn("nix", "sign", "--key-file", world.secret, *world.infos)
    ours = infos_of(unsigned)
    for path, theirs in world.infos.items():
        assert ours[path]["signatures"] == theirs["signatures"], path


def test_references_are_found_as_nix_finds_them(unsigned, world):
    """What a scan finds in each tree is what Nix found after building it."""
    for path in world.built:
        value, = unsigned.cairn("nix", "import", "--json", "--scan", "--name=scanned",
                                world.nix.root / path[1:]).json()
        assert value["references"] == sorted(world.infos[path]["references"]), path
        assert value["narHash"] == world.infos[path]["narHash"]
