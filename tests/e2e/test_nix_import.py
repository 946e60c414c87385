"""cairn nix import: trees and files as store paths. The names that Nix gives are computed here."""
import base64
import hashlib
import os
import signal

import pytest

import nars
from harness import CAIRN, environment, start, wait_until, write
from nix_paths import nixbase32


def fold(fingerprint, name):
    digest = bytearray(20)
    for i, byte in enumerate(hashlib.sha256(fingerprint.encode()).digest()):
        digest[i % 20] ^= byte
    return f"/nix/store/{nixbase32(bytes(digest))}-{name}"


def source_path(data, name, references=()):
    """Of a NAR."""
    kind = ":".join(["source", *sorted(references)])
    return fold(f"{kind}:sha256:{hashlib.sha256(data).hexdigest()}:/nix/store:{name}", name)


def text_path(data, name, references=()):
    kind = ":".join(["text", *sorted(references)])
    return fold(f"{kind}:sha256:{hashlib.sha256(data).hexdigest()}:/nix/store:{name}", name)


def fixed_path(data, name, algorithm, prefix=""):
    """Of contents, or with the prefix r:, of a NAR."""
    inner = f"fixed:out:{prefix}{algorithm}:{hashlib.new(algorithm, data).hexdigest()}:"
    digest = hashlib.sha256(inner.encode()).hexdigest()
    return fold(f"output:out:sha256:{digest}:/nix/store:{name}", name)


def paths(result):
    return result.out.splitlines()


def one(store, *args):
    value, = store.cairn("nix", "import", "--json", *args).json()
    return value


def known(store):
    return [v["path"] for v in store.cairn("nix", "path-info", "--all", "--json").json()]


@pytest.fixture
def program(source):
    return write(source / "program", "#!/bin/sh\n", 0o755)


def test_trees_and_files(store, sample):
    names = ["sub", "hello", "run", "dangling", "nothing"]
    want = [source_path(nars.of_tree(sample / n), n) for n in names]
    assert paths(store.cairn("nix", "import", *(sample / n for n in names))) == want
    assert sorted(known(store)) == sorted(want)
    assert store.roots() == {}
    verified = store.cairn("nix", "verify", "--all")
    assert "5 paths checked, 0 corrupt, 0 unreadable, 0 untrusted" in verified.out
    assert store.cairn("cat", f"{want[0]}/hello").out == "hello\n"


def test_json(store, sample):
    data = nars.of_tree(sample)
    value = one(store, "--name", "sample-1.0", sample)
    digest = hashlib.sha256(data).digest()
    assert value["path"] == source_path(data, "sample-1.0")
    assert value["narHash"] == "sha256-" + base64.b64encode(digest).decode()
    assert value["narSize"] == len(data)
    assert value["references"] == []
    assert value["ca"] == f"fixed:r:sha256:{nixbase32(digest)}"
    assert value["digest"] == store.add(sample, "direct")["digest"]
    shown, = store.cairn("nix", "path-info", "--json", value["path"]).json()
    assert shown == value


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256", "sha512"])
def test_fixed(store, sample, program, algorithm):
    data, contents = nars.of_tree(sample / "sub"), program.read_bytes()
    tree = one(store, "--hash-algo", algorithm, sample / "sub")
    file = one(store, "--hash-algo", algorithm, "--flat", program)
    digest = nixbase32(hashlib.new(algorithm, data).digest())
    assert tree["ca"] == f"fixed:r:{algorithm}:{digest}"
    assert tree["path"] == (source_path(data, "sub") if algorithm == "sha256"
                            else fixed_path(data, "sub", algorithm, "r:"))
    digest = nixbase32(hashlib.new(algorithm, contents).digest())
    assert file["ca"] == f"fixed:{algorithm}:{digest}"
    assert file["path"] == fixed_path(contents, "program", algorithm)
    # As nix-store --add-fixed, which keeps the bit that the path does not tell.
    assert file["executable"] is True
    assert file["narSize"] == len(nars.of_tree(program))


def test_text(store, program):
    contents = program.read_bytes()
    value = one(store, "--text", program)
    assert value["path"] == text_path(contents, "program")
    assert value["ca"] == f"text:sha256:{nixbase32(hashlib.sha256(contents).digest())}"
    assert value["executable"] is False


def test_references(store, sample, program, source):
    first = one(store, sample / "sub")["path"]
    second = one(store, program)["path"]
    user = write(source / "user", f"uses {first} twice {first}\n")
    value = one(store, "--reference", second, "--reference", os.path.basename(first),
                "--reference", second, user)
    assert value["references"] == sorted([first, second])
    assert value["path"] == source_path(nars.of_tree(user), "user", [first, second])
    text = one(store, "--text", "--reference", first, user)
    assert text["path"] == text_path(user.read_bytes(), "user", [first])
    absent = source_path(b"x", "absent")
    result = store.cairn("nix", "import", "--reference", absent, user, check=False)
    assert result.code == 3
    assert absent in result.err
    assert store.cairn("nix", "import", "--reference", "x", user, check=False).code == 2


def test_scan(store, sample, source):
    first = one(store, sample / "sub")["path"]
    unrelated = one(store, "--name", "unrelated", sample / "hello")["path"]
    # Contents, targets of symlinks and names count; so do paths of the same import.
    content = write(source / "content", f"x{first}y")
    by_content = source_path(nars.of_tree(content), "content", [first])
    (source / "a-link").symlink_to(f"{by_content}/bin")
    by_link = source_path(nars.of_tree(source / "a-link"), "a-link", [by_content])
    (source / "named").mkdir()
    write(source / "named" / os.path.basename(by_link), "")
    by_name = source_path(nars.of_tree(source / "named"), "named", [by_link])
    values = store.cairn("nix", "import", "--scan", "--json",
                         *(source / n for n in ("content", "a-link", "named"))).json()
    assert [v["path"] for v in values] == [by_content, by_link, by_name]
    assert [v["references"] for v in values] == [[first], [by_content], [by_link]]
    closure = [v["path"] for v in store.cairn("nix", "path-info", "-r", "--json",
                                              by_name).json()]
    assert sorted(closure) == sorted([first, by_content, by_link, by_name])
    # What is found and what is given come together, once.
    both = one(store, "--scan", "--reference", first, "--reference", unrelated,
               source / "content")
    assert both["references"] == sorted([first, unrelated])
    text = one(store, "--scan", "--text", source / "content")
    assert text["path"] == text_path((source / "content").read_bytes(), "content", [first])


def test_again(store, sample, folder):
    """What is there stays as it is, with its signatures."""
    path = one(store, sample)["path"]
    store.cairn("nix", "generate-key", "test-1", folder / "key")
    store.cairn("nix", "sign", "--key-file", folder / "key", path)
    value = one(store, sample)
    assert value["path"] == path
    assert [s.split(":")[0] for s in value["signatures"]] == ["test-1"]
    # Twice in one command.
    assert paths(store.cairn("nix", "import", sample / "sub", sample / "sub")) == [
        source_path(nars.of_tree(sample / "sub"), "sub")] * 2
    assert len(known(store)) == 2


def test_faults(store, sample, source):
    for args in (["--flat", sample / "sub"], ["--text", sample / "dangling"]):
        result = store.cairn("nix", "import", *args, check=False)
        assert result.code == 1
        assert args[0] in result.err and os.fspath(args[1]) in result.err
    for args in ([], ["--flat", "--text", sample / "hello"], ["--hash-algo", "md4", sample],
                 ["--text", "--hash-algo", "md5", sample / "hello"],
                 ["--scan", "--flat", sample / "hello"], ["--scan", "--hash-algo", "sha1", sample],
                 ["--name", "x", sample / "hello", sample / "sub"], ["--name", "a b", sample],
                 ["--name", "", sample], ["--name", "x" * 212, sample], ["--name", "..", sample]):
        result = store.cairn("nix", "import", *args, check=False)
        assert result.code == 2, args
        assert result.out == ""
    odd = write(source / "odd name", "x")
    result = store.cairn("nix", "import", sample / "hello", odd, check=False)
    assert result.code == 2
    assert "odd name" in result.err and "--name" in result.err
    assert known(store) == []
    assert store.cairn("nix", "import", source / "absent", check=False).code == 3


def test_those_before_a_failure_stay(store, sample, source):
    result = store.cairn("nix", "import", sample / "hello", source / "absent", sample / "sub",
                         check=False)
    assert result.code == 3
    want = source_path(nars.of_tree(sample / "hello"), "hello")
    assert paths(result) == [want]
    assert known(store) == [want]


def test_interrupted(store, sample, source):
    """The path that was under way is not there."""
    with open(source / "large", "wb") as f:
        f.truncate(1 << 36)
    store.cairn("nix", "import", sample / "hello")
    before = known(store)
    process = start([CAIRN, "--store", store.path, "nix", "import", source / "large"],
                    env=environment())
    wait_until(lambda: reads(process.pid, source / "large"), "reading")
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert known(store) == before


def reads(pid, path):
    folder = f"/proc/{pid}/fd"
    return any(os.path.realpath(os.path.join(folder, fd)) == os.fspath(path)
               for fd in os.listdir(folder))
