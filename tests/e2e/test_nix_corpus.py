"""
Real Nix against cairn, over a corpus of real trees and of hard ones: the same archives, hashes and
store paths in both directions. With sanitizers (CAIRN_TEST_SLOW above 1), of the real trees only
every fifth is taken.
"""
import concurrent.futures
import hashlib
import os
import pathlib
import subprocess
import tempfile

import pytest

import harness
import nars
import nix_corpus
import real_nix
from harness import CAIRN, TIMEOUT, assert_same_tree, environment, run
from nix_paths import nixbase32

pytestmark = real_nix.needs_nix
CPUS = os.cpu_count() or 2
PIECE = 1 << 20


class Corpus:
    """The trees, imported once by name and once under store paths; and Nix."""

    def __init__(self, folder):
        self.folder = folder
        self.nix = real_nix.Nix(folder / "nix")
        (folder / "corpus").mkdir()
        self.paths = nix_corpus.make(folder / "corpus")
        self.store = harness.Store(folder / "store")
        result = self.store.cairn("import", "--json", *self.paths, timeout=4 * TIMEOUT)
        self.roots = {v["name"]: v for v in result.json()}

    def names(self):
        return [path.name for path in self.paths]


@pytest.fixture(scope="module")
def corpus(sanitizer_folder):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="cairn-corpus-"))
    made = Corpus(folder)
    yield made
    made.nix.allow_removal()
    run(["rm", "-rf", folder], timeout=4 * TIMEOUT)


def in_parallel(function, items):
    with concurrent.futures.ThreadPoolExecutor(CPUS) as pool:
        faults = [fault for fault in pool.map(function, items) if fault]
    assert not faults, "\n".join(faults[:20])


def compare_streams(a, b):
    """None, or where two streams differ."""
    at = 0
    while True:
        left, right = a.read(PIECE), b.read(PIECE)
        if left != right:
            return f"different after byte {at}"
        if not left:
            return None
        at += len(left)


def test_corpus_is_large_enough(corpus):
    assert len(corpus.paths) >= (200 if harness.SLOW <= 1 else 50)
    assert len(set(corpus.names())) == len(corpus.paths)
    kinds = {corpus.roots[name]["kind"] for name in corpus.names()}
    assert kinds == {"file", "directory", "symlink"}


def test_dumps(corpus):
    """cairn nar dump and nix-store --dump: equal to the byte."""
    def compare(path):
        with corpus.nix.dump(path) as theirs, \
                subprocess.Popen([CAIRN, "--store", corpus.store.path, "nar", "dump", path.name],
                                 stdout=subprocess.PIPE, env=environment()) as ours:
            fault = compare_streams(ours.stdout, theirs.stdout)
        if fault or ours.returncode or theirs.returncode:
            return f"{path}: {fault} (exit {ours.returncode}, {theirs.returncode})"
        return None

    in_parallel(compare, corpus.paths)


def test_hashes(corpus):
    """One nix-hash over all, in base 16 and in base 32."""
    for form, options in (("base16", []), ("nix32", ["--base32"])):
        theirs = run(["nix-hash", "--type", "sha256", *options, *corpus.paths],
                     env=corpus.nix.env, timeout=4 * TIMEOUT).out.split()
        lines = corpus.store.cairn("nar", "hash", "--format", form, *corpus.names(),
                                   timeout=4 * TIMEOUT).out.splitlines()
        ours = [line.split()[0].removeprefix("sha256:") for line in lines]
        assert dict(zip(corpus.names(), ours)) == dict(zip(corpus.names(), theirs))


def test_store_paths(corpus):
    """nix-store --add names all as cairn nix import does, and then knows the same of them."""
    theirs = corpus.nix.store("--add", *corpus.paths, timeout=4 * TIMEOUT).out.split()
    values = corpus.store.cairn("nix", "import", "--json", *corpus.paths,
                                timeout=4 * TIMEOUT).json()
    assert [v["path"] for v in values] == theirs
    for value, name in zip(values, corpus.names()):
        assert value.get("digest") == corpus.roots[name].get("digest"), name
    known = {v["path"]: v for v in corpus.nix.path_info(*theirs)}
    for value in values:
        other = known[value["path"]]
        for key in ("narHash", "narSize", "references", "ca"):
            assert value[key] == other[key], (value["path"], key)


def test_ingest_of_their_archives(corpus):
    """A NAR that Nix wrote is the tree itself."""
    def compare(path):
        with corpus.nix.dump(path) as theirs:
            done = subprocess.run([CAIRN, "--store", store.path, "nar", "import", "--json"],
                                  stdin=theirs.stdout, capture_output=True, env=environment(),
                                  check=False)
        result = harness.Result(path, done.returncode, done.stdout, done.stderr)
        if result.code:
            return repr(result)
        value, root = result.json()[0], corpus.roots[path.name]
        same = all(value.get(k) == root.get(k) for k in ("kind", "digest", "target", "executable",
                                                         "size"))
        return None if same else f"{path}: {value} instead of {root}"

    store = harness.Store(corpus.folder / "ingested")
    in_parallel(compare, corpus.paths)


def restored(corpus, path, write, read):
    """Pipes one program into another and compares what comes out with the path."""
    out = corpus.folder / f"restored-{path.name}"
    with subprocess.Popen(write, stdout=subprocess.PIPE, env=environment(corpus.nix.env)) as dump:
        done = subprocess.run([*read, out], stdin=dump.stdout, capture_output=True,
                              env=environment(corpus.nix.env), check=False)
    if done.returncode or dump.returncode:
        return f"{path}: {done.stderr.decode()}"
    try:
        if path.name in ("random", "sparse"):
            # Too much for Python's memory to hold many of.
            return None if subprocess.run(["cmp", "-s", path, out], check=False).returncode == 0 \
                else f"{path}: different"
        assert_same_tree(path, out)
        return None
    except AssertionError as fault:
        return f"{path}: {fault}"
    finally:
        subprocess.run(["rm", "-rf", out], check=True)


def test_restore_by_nix(corpus):
    """nix-store --restore of our archives gives the trees."""
    in_parallel(lambda path: restored(
        corpus, path, [CAIRN, "--store", corpus.store.path, "nar", "dump", path.name],
        ["nix-store", "--restore"]), corpus.paths)


def test_restore_of_their_archives(corpus):
    in_parallel(lambda path: restored(corpus, path, ["nix-store", "--dump", path],
                                      [CAIRN, "nar", "restore"]), corpus.paths)


def test_ls_against_nix(corpus):
    """nix nar ls of the same archive sees the same."""
    for name in ("padding", "twins", "links", "deep", "wide"):
        archive = corpus.folder / f"{name}.nar"
        archive.write_bytes(corpus.store.cairn("nar", "dump", name).raw)
        ours = run([CAIRN, "nar", "ls", "-R", archive]).out.splitlines()
        theirs = corpus.nix.command("nar", "ls", "--recursive", archive, "/").out.splitlines()
        assert ours
        assert sorted(f"./{line}" for line in ours) == sorted(theirs)


# ---- Other ways to name ----

@pytest.mark.parametrize("algorithm", ["sha256", "sha512", "sha1", "md5"])
def test_fixed_paths(corpus, algorithm):
    names = ["one-byte", "executable", "twins", "empty-directory", "symlink", "sizes"]
    paths = [p for p in corpus.paths if p.name in names]
    assert len(paths) == len(names)
    theirs = corpus.nix.store("--add-fixed", "--recursive", algorithm, *paths).out.split()
    ours = corpus.store.cairn("nix", "import", "--hash-algo", algorithm, *paths).out.split()
    assert ours == theirs
    files = [p for p in paths if p.is_file() and not p.is_symlink()]
    theirs = corpus.nix.store("--add-fixed", algorithm, *files).out.split()
    values = corpus.store.cairn("nix", "import", "--json", "--flat", "--hash-algo", algorithm,
                                *files).json()
    assert [v["path"] for v in values] == theirs
    known = {v["path"]: v for v in corpus.nix.path_info(*theirs)}
    for value in values:
        assert {k: value[k] for k in ("narHash", "narSize", "ca")} == \
            {k: known[value["path"]][k] for k in ("narHash", "narSize", "ca")}


def evaluate(nix, expression):
    # In this mode, what an expression puts into the store really gets there.
    result = nix.run("nix-instantiate", "--eval", "--read-write-mode", "--expr", expression)
    return result.out.strip().strip('"')


def test_text_paths(corpus, folder):
    """builtins.toFile, also with what it refers to."""
    path = harness.write(folder / "inner", "some text\n")
    inner = corpus.store.cairn("nix", "import", "--text", path).out.strip()
    assert inner == evaluate(corpus.nix, r'builtins.toFile "inner" "some text\n"')
    path = harness.write(folder / "outer", f"see {inner}\n")
    expression = r'builtins.toFile "outer" "see ${builtins.toFile "inner" "some text\n"}\n"'
    theirs = evaluate(corpus.nix, expression)
    value = corpus.store.cairn("nix", "import", "--text", "--scan", "--json", path).json()[0]
    assert (value["path"], value["references"]) == (theirs, [inner])
    known = {v["path"]: v for v in corpus.nix.path_info(theirs)}[theirs]
    assert (value["narHash"], value["ca"]) == (known["narHash"], known["ca"])
    # The same when it is told what Nix knows.
    assert corpus.nix.store("--query", "--references", theirs).out.split() == [inner]
    assert corpus.store.cairn("nix", "import", "--text", "--reference", inner,
                              path).out.strip() == theirs


def test_scanned_references(corpus, source):
    """References of a tree, wherever in its NAR they are, go into its path as Nix has it."""
    names = ["one-byte", "executable", "twins", "padding"]
    inner = corpus.store.cairn("nix", "import",
                               *[p for p in corpus.paths if p.name in names]).out.split()
    contents, target, name, prefix = inner
    # At the end of a large file, cut by the pieces that it is read in.
    harness.write(source / "big", harness.pattern((1 << 20) - 20, 3) + contents.encode() + b"\n")
    (source / "link").symlink_to(f"{target}/below")
    harness.write(source / os.path.basename(name), "")
    # A hash without its name is one too; a part of a hash is none.
    harness.write(source / "hash", os.path.basename(prefix)[:32])
    other = corpus.store.cairn("nix", "import", "--name=other", source).out.strip()
    harness.write(source / "part", os.path.basename(other)[:31])
    value = corpus.store.cairn("nix", "import", "--scan", "--json", "--name=scanned",
                               source).json()[0]
    assert value["references"] == sorted([contents, target, name, prefix])
    refs = "".join(f":{r}" for r in sorted(value["references"]))
    digest = hashlib.sha256(nars.of_tree(source)).hexdigest()
    fingerprint = f"source{refs}:sha256:{digest}:/nix/store:scanned".encode()
    folded = bytearray(20)
    for i, byte in enumerate(hashlib.sha256(fingerprint).digest()):
        folded[i % 20] ^= byte
    assert value["path"] == f"/nix/store/{nixbase32(folded)}-scanned"
