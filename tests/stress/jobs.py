"""What goes on at the same time. A job returns the bytes that it compared, and starts again."""
import os
import random
import threading
import time

import harness

from . import trees

MODES = ("auto", "cached", "passthrough")
BASE_FILES = 2000
FIO_SECONDS = 2
DROP_SECONDS = 2.0
RECLAIM_SECONDS = 0.5


class Stress:
    """A store, mounts of it in every mode, and what was seen."""

    def __init__(self, folder, seed, seconds, group):
        self.folder = folder
        self.seed = seed
        self.seconds = seconds
        self.group = group
        self.store = harness.Store(folder / "store")
        self.mounts = {}
        self.counts = {}
        self.compared = 0
        self.faults = []
        self.over = threading.Event()
        self.lock = threading.Lock()

    # ---- What it works with ----

    def prepare(self):
        base = self.folder / "base"
        trees.fill(base, random.Random(self.seed), BASE_FILES)
        trees.fill_for_fio(base / "fio")
        self.store.add(base, "base")
        self.expected_listing = trees.listing(base)
        self.expected_archive = trees.archive(base)
        for mode in MODES if harness.AS_ROOT else ("cached",):
            self.mounts[mode] = self.mount(mode, self.folder / f"mnt-{mode}")

    def mount(self, mode, path):
        path.mkdir()
        made = harness.Mount(self.store, path, [f"--io={mode}", "--list-root"], f"{path}.log")
        made.wait_ready()
        return made

    def unmount(self, mount):
        """Must end well, whatever was going on."""
        code = mount.stop()
        mount.clean_up()
        mount.path.rmdir()
        assert code == 0 and not mount.log(), f"the daemon: exit code {code}\n{mount.log()}"

    # ---- Jobs that read a mount ----

    def fio_pread(self, rng, mount):
        return trees.fio_read(mount / "base/fio", rng, "psync", FIO_SECONDS)

    def fio_mmap(self, rng, mount):
        return trees.fio_read(mount / "base/fio", rng, "mmap", FIO_SECONDS)

    def find(self, _, mount):
        assert trees.listing(mount / "base") == self.expected_listing, f"find {mount.path}"
        return 0

    def tar(self, _, mount):
        found = trees.archive(mount / "base")
        assert found == self.expected_archive, f"tar {mount.path}: {found}"
        return found[1]

    # ---- Jobs that change something ----

    def remount(self, rng):
        """A mount that comes and goes, at times with somebody still reading."""
        mode = rng.choice(list(self.mounts))
        made = self.mount(mode, self.folder / f"mnt-{rng.randrange(1 << 40):x}")
        try:
            if rng.random() < 0.5:
                return self.find(rng, made)
            return self.fio_mmap(rng, made)
        finally:
            self.unmount(made)

    def take_in(self, rng):
        """A new tree in the store while it is read; seen through a mount and exported."""
        name = f"tree-{rng.randrange(1 << 40):x}"
        source, out = self.folder / name, self.folder / f"{name}.out"
        trees.fill(source, rng, 200)
        self.store.add(source, name)
        expected = harness.tree_entries(source)
        mode = rng.choice(list(self.mounts))
        assert harness.tree_entries(self.mounts[mode] / name) == expected, f"{mode}: {name}"
        self.store.cairn("export", name, out)
        assert harness.tree_entries(out) == expected, f"export: {name}"
        self.store.cairn("roots", "remove", name)
        harness.remove_tree(source)
        harness.remove_tree(out)
        return 2 * trees.tree_bytes(expected)

    def drop(self, rng):
        """What the kernel knows goes, all of it or only names and inodes."""
        with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
            file.write(rng.choice("123"))
        self.over.wait(DROP_SECONDS * rng.random())
        return 0

    def reclaim(self, rng):
        self.group.reclaim()
        self.over.wait(RECLAIM_SECONDS * rng.random())
        return 0

    # ---- All of it ----

    def jobs(self):
        """{name: (function, arguments)}"""
        found = {f"{job.__name__} {mode}": (job, (mount,))
                 for mode, mount in self.mounts.items()
                 for job in (self.fio_pread, self.fio_mmap, self.find, self.tar)}
        found |= {"remount": (self.remount, ()), "import": (self.take_in, ())}
        if os.access("/proc/sys/vm/drop_caches", os.W_OK):
            found["drop_caches"] = self.drop, ()
        if self.group:
            found["reclaim"] = self.reclaim, ()
        return found

    def repeat(self, name, job, arguments):
        rng = random.Random(f"{self.seed} {name}")
        while not self.over.is_set():
            try:
                compared = job(rng, *arguments)
            except Exception as error:  # whatever it is, it is a fault
                with self.lock:
                    self.faults.append(f"{name}: {type(error).__name__}: {error}")
                self.over.set()
                return
            with self.lock:
                self.counts[name] = self.counts.get(name, 0) + 1
                self.compared += compared

    def work(self):
        """Until the time is up or something fails."""
        jobs = self.jobs()
        threads = [threading.Thread(target=self.repeat, args=(name, *job))
                   for name, job in jobs.items()]
        begin = time.monotonic()
        for thread in threads:
            thread.start()
        self.over.wait(self.seconds)
        self.over.set()
        for thread in threads:
            thread.join()
        self.faults += [f"{name}: did nothing" for name in jobs if name not in self.counts]
        return time.monotonic() - begin

    def finish(self):
        """Ends the mounts; the store must be whole."""
        for mode, mount in self.mounts.items():
            try:
                self.unmount(mount)
            except AssertionError as error:
                self.faults.append(f"mount {mode}: {error}")
        out = self.folder / "base.out"
        self.store.cairn("export", "base", out, timeout=10 * harness.TIMEOUT)
        if trees.archive(out) != self.expected_archive:
            self.faults.append("the store no longer gives what was put in")
