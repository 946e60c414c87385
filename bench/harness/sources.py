"""A source tree to work with, next to the trees of tree.py: part of the kernel's source, one large
program, and what is needed to compile some of it with the tree mounted anywhere.

    tree/        the sources, and bin/cc1
    generated/   what configuring a kernel makes; outside, as out-of-tree builds have it
    manifest.json, with the names of the sources that can be compiled so
"""

import concurrent.futures
import json
import os
import platform
import re
import shutil
import subprocess
import tempfile

from harness import tree
from harness.paths import bench_dir, remove_tree

PARTS = ("arch/x86", "block", "crypto", "fs", "include", "kernel", "lib", "mm", "net")
COMPILED = ("lib", "mm", "kernel", "block")
OBJECTS = 48
CONFIGURED_PATTERN = r"^linux-headers-6\.1\.0-[0-9]+-amd64$"
PROGRAM = "bin/cc1"

# As the kernel's own makefiles call it, in short; {tree}, {generated}, {source}, {object}, {name}.
COMPILE = """gcc -nostdinc -w -std=gnu11 -O2 -m64 -D__KERNEL__ -DMODULE
 -I{tree}/arch/x86/include -I{generated}/arch/x86/include/generated
 -I{tree}/include -I{generated}/include
 -I{tree}/arch/x86/include/uapi -I{generated}/arch/x86/include/generated/uapi
 -I{tree}/include/uapi -I{generated}/include/generated/uapi
 -include {tree}/include/linux/compiler-version.h -include {tree}/include/linux/kconfig.h
 -include {tree}/include/linux/compiler_types.h
 -fshort-wchar -fno-strict-aliasing -fno-common -fno-PIE -fcf-protection=none
 -fno-asynchronous-unwind-tables -fno-delete-null-pointer-checks
 -mno-sse -mno-mmx -mno-sse2 -mno-3dnow -mno-avx -mno-red-zone -mcmodel=kernel
 -DKBUILD_MODFILE=\\"{name}\\" -DKBUILD_BASENAME=\\"{name}\\" -DKBUILD_MODNAME=\\"{name}\\"
 -D__KBUILD_MODNAME=kmod_{name} -ffile-prefix-map={tree}=.
 -c -o {object} {tree}/{source}""".replace("\n", "")


def missing():
    """Why there is none on this machine, or None."""
    if platform.machine() != "x86_64":
        return "the kernel's source is only configured for x86_64 here"
    for program in ("gcc", "make", "git"):
        if not shutil.which(program):
            return f"{program} is not there"
    return None


def object_name(source):
    return re.sub(r"[^a-z0-9]", "_", source.removesuffix(".c")) + ".o"


def compile_command(source, **places):
    name = object_name(source).removesuffix(".o")
    return COMPILE.format(source=source, name=name, **places)


def can_be_compiled(folder, source):
    with tempfile.NamedTemporaryFile(suffix=".o") as out:
        command = compile_command(source, tree=folder / "tree", generated=folder / "generated",
                                  object=out.name)
        done = subprocess.run(["sh", "-c", command], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, timeout=120)
    return done.returncode == 0


def choose_sources(folder):
    """The first that a compiler takes, with the configuration that there is."""
    tree.say("choosing sources to compile")
    names = [os.path.relpath(path, folder / "tree") for part in COMPILED
             for path in sorted((folder / "tree" / part).glob("*.c"))]
    chosen = []
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        step = 4 * (os.cpu_count() or 1)
        for start in range(0, len(names), step):
            batch = names[start:start + step]
            fit = pool.map(lambda name: can_be_compiled(folder, name), batch)
            chosen += [name for name, good in zip(batch, fit) if good]
            if len(chosen) >= OBJECTS:
                return chosen[:OBJECTS]
    return chosen


def copy_sources(full, goal):
    source = next((full / "tree").glob("linux-source-*"))
    for part in PARTS:
        shutil.copytree(source / part, goal / part, symlinks=True)
    program = tree.run(["gcc", "-print-prog-name=cc1"]).strip()
    (goal / PROGRAM).parent.mkdir()
    shutil.copyfile(program, goal / PROGRAM)
    (goal / PROGRAM).chmod(0o555)


def unpack_configuration(folder):
    """A kernel package that is configured; its files are few, and stay outside the mounts."""
    name = tree.newest_packages(CONFIGURED_PATTERN, 1)[-1]
    deb = tree.download_package(name, bench_dir() / "packages")
    scratch = folder / "scratch"
    tree.unpack_package(deb, scratch)
    (scratch / "usr/src" / name).rename(folder / "generated")
    shutil.rmtree(scratch)


def make(folder, full):
    remove_tree(folder)
    goal = folder / "tree"
    goal.mkdir(parents=True)
    tree.say("copying the source tree")
    copy_sources(full, goal)
    unpack_configuration(folder)
    tree.normalise(goal)
    manifest = {"recipe": tree.RECIPE, **tree.measure(goal), "sources": choose_sources(folder)}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


def prepare():
    """(folder, manifest), made first if it has to be."""
    folder = bench_dir() / "sources"
    if tree.read_manifest(folder) is None:
        tree.prepare(quick=False)
        make(folder, bench_dir() / "full")
    return folder, tree.read_manifest(folder)
