"""What people do with a source tree: building it, asking git about it, starting programs of it."""

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from harness import process, sources
from harness.session import Mounted

SCENARIOS = ("build", "git", "exec")
JOBS = os.cpu_count() or 1
STARTS = 20
GIT_SETTINGS = ("-c", "safe.directory=*", "-c", "gc.auto=0", "-c", "user.name=bench", "-c",
                "user.email=bench", "-c", "core.untrackedCache=false", "-c",
                "core.fsmonitor=false")


def clocked(command, timeout, pin=None, env=None):
    """A command as a client: what it took, and its output."""
    prefix = ["taskset", "-c", str(pin)] if pin is not None else []
    done = process.run([*prefix, *(["env", *env] if env else []), *command], timeout)
    return {"seconds": done.seconds, "cpu_seconds": done.cpu_seconds, "output": done.output}


def prove(bench, contender):
    bench.ensure_filled(contender, bench.sources)
    with Mounted(bench, contender, data=bench.sources) as mounted:
        bench.check(mounted.view, bench.sources)


def cold_and_warm(bench, contender, pin, name, first, again):
    """Cold, and warm; on one CPU only warm, after everything was read."""
    data = bench.sources
    bench.ensure_filled(contender, data)
    cold = bench.cold and pin is None
    with Mounted(bench, contender, data=data, cold=cold, pin=pin) as mounted:
        if cold:
            mounted.timed(f"{name}.cold", first, mounted.view)
        else:
            bench.walk("read", mounted.view, data=data)
        mounted.timed(f"{name}.warm", again, mounted.view)


# Building


def write_makefile(folder, view, generated, names):
    """A rule for each object, so that make asks for sources and starts compilers as ever."""
    rules = [f"all: {' '.join(sources.object_name(name) for name in names)}"]
    for name in names:
        command = sources.compile_command(name, tree=view, generated=generated, object="$@")
        rules.append(f"{sources.object_name(name)}: {view}/{name}\n\t@{command}")
    (folder / "Makefile").write_text("\n".join(rules) + "\n")


def digest_of_objects(folder):
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.o")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def build(bench, contender, pin):
    data = bench.sources

    def action(view, pin=None):
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else bench.work
        with tempfile.TemporaryDirectory(prefix="cairn-bench-", dir=memory) as out:
            write_makefile(Path(out), view, data.generated, data.manifest["sources"])
            seen = clocked(["make", "-s", f"-j{JOBS}", "-C", out], bench.timeout, pin)
            digest = digest_of_objects(Path(out))
        data.objects = data.objects or digest
        if digest != data.objects:
            raise process.RunError(f"{view}: the objects of the build are not the same")
        return seen

    cold_and_warm(bench, contender, pin, "build", action, action)


# git


def run_git(repository, view, *words):
    return ["git", *GIT_SETTINGS, f"--git-dir={repository}", f"--work-tree={view}", *words]


def make_repository(bench):
    """A repository outside the tree, whose index knows contents but not yet the files. It
    compares them by their hashes, so that it can do without the blobs, but for symlinks."""
    data = bench.sources
    repository = bench.work / "repository"

    def git_input(words, text):
        return subprocess.run(run_git(repository, data.tree, *words), input=text, check=True,
                              timeout=bench.timeout, stdout=subprocess.PIPE, text=True,
                              cwd=data.tree).stdout

    git_input(["init", "-q"], "")
    lines = git_input(["ls-files", "--others", "-s", "-z"], "").split("\0")[:-1]
    files = [name for name in lines if not (data.tree / name).is_symlink()]
    ids = dict(zip(files, git_input(["hash-object", "--no-filters", "--stdin-paths"],
                                    "\n".join(files)).split("\n")))
    entries = []
    for name in lines:
        path = data.tree / name
        if path.is_symlink():
            ids[name] = git_input(["hash-object", "-w", "--stdin"], os.readlink(path)).strip()
        mode = "120000" if path.is_symlink() else (
            "100755" if path.stat().st_mode & 0o100 else "100644")
        entries.append(f"{mode} {ids[name]}\t{name}")
    git_input(["update-index", "--index-info"], "\n".join(entries) + "\n")
    top = git_input(["write-tree", "--missing-ok"], "").strip()
    commit = git_input(["commit-tree", top, "-m", "all"], "").strip()
    git_input(["update-ref", "HEAD", commit], "")
    return repository


def git(bench, contender, pin):
    """With the index of a repository elsewhere, whose work tree is the mount."""
    if pin is not None:
        return
    data = bench.sources
    data.repository = data.repository or make_repository(bench)
    bench.ensure_filled(contender, data)
    own = bench.work / contender.name / "repository"
    shutil.rmtree(own, ignore_errors=True)
    shutil.copytree(data.repository, own)

    def action(view, pin=None):
        seen = clocked(run_git(own, view, "status", "--porcelain"), bench.timeout, pin)
        if seen["output"]:
            raise process.RunError(f"{view}: git sees changes:\n{seen['output']}")
        return seen

    # Only files older than the index can be trusted later.
    time.sleep(1)
    with Mounted(bench, contender, data=data) as mounted:
        mounted.timed("git.first", action, mounted.view)
        mounted.timed("git.warm", action, mounted.view)
    if bench.cold:
        with Mounted(bench, contender, data=data, cold=True) as mounted:
            mounted.timed("git.cold", action, mounted.view)


# Programs


def execute(bench, contender, pin):
    """A large program that has little to do: compiling nothing."""
    def start(view, pin=None):
        return clocked([view / sources.PROGRAM, "-quiet", "/dev/null", "-o", "/dev/null"],
                       bench.timeout, pin)

    def start_often(view, pin=None):
        seen = [start(view, pin) for _ in range(STARTS)]
        return {key: sum(one[key] for one in seen) / STARTS
                for key in ("seconds", "cpu_seconds")}

    cold_and_warm(bench, contender, pin, "exec", start, start_often)
