"""Many entries and many roots: what each of them costs, and what mounting all of it takes."""

import os
import shutil
import tempfile
from pathlib import Path

from harness import machine, process
from harness.contenders import NAME
from harness.session import DataSet, Mounted

# Directories, files in each, directories that are roots too.
SHAPES = {"less": (10, 1000, 0), "more": (1000, 1000, 0), "folder": (1, 1_000_000, 0),
          "roots": (1_000_000, 1, 100_000)}


def data_of(bench, shape):
    directories, files, _ = SHAPES[shape]
    return DataSet(f"scale-{shape}", bench.tree,
                   {"files": directories * files, "directories": directories, "symlinks": 0,
                    "bytes": 4 * directories * files,
                    "name_bytes": directories * (12 + 10 * files)})


def ensure_store(bench, contender, shape):
    """Made once for all rounds, by a helper of the tests. In memory first: a hundred thousand
    roots are as many syncs."""
    data = data_of(bench, shape)
    store = bench.places(contender, data)["home"] / "store"
    if not store.exists():
        helper = Path(contender.program).parents[2] / "tests/e2e/wide_store"
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else bench.work
        with tempfile.TemporaryDirectory(prefix="cairn-bench-", dir=memory) as folder:
            process.run([helper, f"{folder}/store", NAME, *SHAPES[shape]], bench.timeout)
            bench.fresh_home(contender, data)
            shutil.copytree(f"{folder}/store", store)
        os.sync()
    return data


def record_walk(bench, contender, mounted, metric):
    seen = bench.walk("stat", mounted.view, data=mounted.data)
    bench.record(metric, contender, seen["seconds"] / mounted.data.entries)


def many_entries(bench, contender, shape, suffix):
    data = ensure_store(bench, contender, shape)
    with Mounted(bench, contender, data=data) as mounted:
        record_walk(bench, contender, mounted, f"scale.walk{suffix}")
        if shape == "more":
            record_memory(bench, contender, mounted)
    with Mounted(bench, contender, data=data) as mounted:
        seen = bench.probe("lookup", mounted.view, *SHAPES[shape][:2])
        bench.record(f"scale.lookup{suffix}", contender, seen["seconds"] / seen["entries"])


def record_memory(bench, contender, mounted):
    bench.record("scale.memory", contender, mounted.settled())
    if bench.cold:
        machine.drop_caches(2)
        bench.record("scale.forgotten", contender, mounted.settled())


def one_folder(bench, contender):
    data = ensure_store(bench, contender, "folder")
    with Mounted(bench, contender, data=data) as mounted:
        record_walk(bench, contender, mounted, "scale.folder")


def many_roots(bench, contender):
    data = ensure_store(bench, contender, "roots")
    if bench.cold:
        with Mounted(bench, contender, data=data, cold=True) as mounted:
            bench.record("scale.mount.cold", contender, mounted.mount_seconds)
    with Mounted(bench, contender, data=data) as mounted:
        bench.record("scale.mount", contender, mounted.mount_seconds)


def scenario_scale(bench, pins):
    for contender in bench.turn(lambda one: one.ours and one.mount and not one.home_of):
        bench.attempt(contender, many_entries, "less", ".less")
        bench.attempt(contender, many_entries, "more", "")
        bench.attempt(contender, one_folder)
        bench.attempt(contender, many_roots)
