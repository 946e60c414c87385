"""A Nix store of several hundred paths, kept by real Nix: copied in, mounted, and run from."""
import base64
import hashlib
import json
import os
import re
import shutil

import pytest

import nars
from harness import AS_ROOT, SLOW, TIMEOUT, pattern, run, write
from nix_paths import nixbase32
from real_nix import Nix, needs_nix

pytestmark = [needs_nix, pytest.mark.fuse]

PLAIN_PATHS = 400 if SLOW == 1 else 80
BUSYBOX = shutil.which("busybox")


class Paths:
    """Store paths made by hand and registered with Nix, with references."""

    def __init__(self, nix):
        self.nix = nix
        self.references = {}

    def add(self, name, make, references=()):
        digest = hashlib.sha1(f"{len(self.references)} {name}".encode()).digest()
        path = f"/nix/store/{nixbase32(digest)}-{name}"
        on_disk = self.on_disk(path)
        on_disk.parent.mkdir(parents=True, exist_ok=True)
        make(on_disk, path)
        self.references[path] = sorted(path if r == "self" else r for r in references)
        return path

    def on_disk(self, path):
        return self.nix.root / path[1:]

    def register(self):
        """Nix takes them as valid, and finds in each what it was told."""
        lines = []
        for path, references in self.references.items():
            data = nars.of_tree(self.on_disk(path))
            lines += [path, hashlib.sha256(data).hexdigest(), str(len(data)), "",
                      str(len(references)), *references]
        self.nix.store("--load-db", input="".join(f"{line}\n" for line in lines).encode())
        self.nix.store("--verify", "--check-contents", timeout=4 * TIMEOUT)


def add_plain(paths):
    """Each refers to some of those before it, in contents, in links, and to itself."""
    made = []
    for number in range(PLAIN_PATHS):
        # The one before, one half way, one near: long chains that meet again.
        places = {number - 1, number // 2, max(0, number - 7)}
        references = sorted(made[place] for place in places) if number else []

        def make(on_disk, path, references=references, number=number):
            write(on_disk / "list", "\n".join([path, *references]) + "\n")
            write(on_disk / "data", pattern(number * 37 % 5000, number + 1))
            for place, reference in enumerate(references):
                (on_disk / f"link{place}").symlink_to(reference)

        made.append(paths.add(f"plain-{number}", make, ["self", *references]))


def interpreter_of(program):
    headers = run(["readelf", "--program-headers", program]).out
    return re.search(r"Requesting program interpreter: (.*)\]", headers)[1]


def compile_c(source, out, *options):
    out.parent.mkdir(parents=True, exist_ok=True)
    run(["cc", "-o", out, source, *options])


def add_program(paths, folder):
    """A program whose interpreter, C library and own library are in store paths, and a script
    whose shell is. Gives the script."""
    greet = write(folder / "greet.c", 'const char *greet(void) { return "hello from the store"; }\n')
    main = write(folder / "main.c", "#include <stdio.h>\nconst char *greet(void);\n"
                 "int main(void) { puts(greet()); return 0; }\n")
    compile_c(greet, folder / "libgreet.so", "-shared", "-fPIC", "-Wl,-soname,libgreet.so")
    compile_c(main, folder / "main", folder / "libgreet.so")
    loader = interpreter_of(folder / "main")
    libc = run(["cc", "-print-file-name=libc.so.6"]).out.strip()

    def make_libc(on_disk, path):
        (on_disk / "lib").mkdir(parents=True)
        for file in (loader, libc):
            shutil.copy(file, on_disk / "lib" / os.path.basename(file))

    def make_greet(on_disk, path):
        compile_c(greet, on_disk / "lib/libgreet.so", "-shared", "-fPIC", "-Wl,-soname,libgreet.so")

    def make_tool(on_disk, path):
        compile_c(main, on_disk / "bin/tool", paths.on_disk(lib) / "lib/libgreet.so",
                  f"-Wl,--dynamic-linker={glibc}/lib/{os.path.basename(loader)}",
                  f"-Wl,-rpath,{glibc}/lib:{lib}/lib")

    def make_shell(on_disk, path):
        (on_disk / "bin").mkdir(parents=True)
        shutil.copy(BUSYBOX, on_disk / "bin/busybox")

    def make_script(on_disk, path):
        write(on_disk / "bin/run", f"#!{shell}/bin/busybox sh\n{tool}/bin/tool\n"
              f"echo from $0\n", 0o755)

    glibc = paths.add("glibc", make_libc)
    lib = paths.add("greet-1.0", make_greet)
    tool = paths.add("tool-1.0", make_tool, [glibc, lib])
    shell = paths.add("busybox", make_shell)
    return paths.add("script", make_script, [tool, shell]) + "/bin/run"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    nix = Nix(tmp_path_factory.mktemp("nix"))
    paths = Paths(nix)
    add_plain(paths)
    folder = tmp_path_factory.mktemp("program")
    paths.script = add_program(paths, folder) if BUSYBOX else None
    paths.register()
    yield paths
    nix.allow_removal()


@pytest.fixture
def copied(store, world):
    """What Nix says of all paths; the store has them."""
    infos = world.nix.path_info(*world.references)
    graph = write(store.path.parent / "graph.json", json.dumps(infos))
    store.cairn("nix", "copy", "--from-store", world.nix.root, graph, timeout=4 * TIMEOUT)
    return {info["path"]: info for info in infos}


def test_copy_is_what_nix_has(store, world, copied):
    assert set(copied) == set(world.references)
    ours = {v["path"]: v for v in store.cairn("nix", "path-info", "--all", "--json").json()}
    assert set(ours) == set(copied)
    for path, theirs in copied.items():
        assert ours[path]["narHash"] == theirs["narHash"]
        assert ours[path]["narSize"] == theirs["narSize"]
        assert ours[path]["references"] == sorted(theirs["references"]) == world.references[path]
    store.cairn("nix", "verify", "--all", "--no-trust", timeout=4 * TIMEOUT)


def test_mounted_paths_are_the_same(store, world, copied, mount):
    m = mount(store, "--nix")
    assert sorted(os.listdir(m)) == sorted(os.path.basename(p) for p in copied)
    # Nix itself hashes what the mount shows.
    some = sorted(copied)[::40]
    for path in some:
        digest = run(["nix-hash", "--type", "sha256", m / os.path.basename(path)],
                     env=world.nix.env).out.strip()
        assert bytes.fromhex(digest) == base64.b64decode(copied[path]["narHash"][7:])


@pytest.mark.root
@pytest.mark.skipif(BUSYBOX is None, reason="no busybox: install busybox-static")
def test_programs_run_from_the_mount(store, world, copied, mount, folder):
    """In a root that has nothing but the mount at /nix/store."""
    assert AS_ROOT
    m = mount(store, "--nix", list_root=False)
    jail = folder / "jail"
    (jail / "nix/store").mkdir(parents=True)
    steps = ('mount --make-rprivate / && mount --bind "$1" "$2/nix/store" && '
             'exec chroot "$2" "$3"')
    result = run(["unshare", "--mount", "sh", "-c", steps, "sh", m.path, jail, world.script])
    assert result.out == f"hello from the store\nfrom {world.script}\n"
