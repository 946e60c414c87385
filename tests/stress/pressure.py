"""Memory that runs short: a control group of our own, whose pages are taken back all the time."""
import contextlib
import os
import pathlib

LIMIT = 1 << 30
GROUPS = pathlib.Path("/sys/fs/cgroup")


def own_group():
    """(folder of the group that this process is in, version); None without control groups."""
    with open("/proc/self/cgroup", encoding="ascii") as file:
        lines = [line.rstrip("\n").split(":", 2) for line in file]
    for _, controllers, path in lines:
        if "memory" in controllers.split(","):
            return GROUPS / "memory" / path.lstrip("/"), 1
    for number, _, path in lines:
        if number == "0" and (GROUPS / "cgroup.controllers").exists():
            return GROUPS / path.lstrip("/"), 2
    return None


class Group:
    """Of processes that share LIMIT bytes of memory, the page cache of what they read in it."""

    def __init__(self, parent, version):
        self.parent = parent
        self.folder = parent / f"cairn-stress-{os.getpid()}"
        self.folder.mkdir()
        try:
            limit, self.reclaim_file, self.reclaim_text = {
                1: ("memory.limit_in_bytes", "memory.force_empty", "0"),
                2: ("memory.high", "memory.reclaim", str(LIMIT))}[version]
            (self.folder / limit).write_text(str(LIMIT))
            (self.folder / "cgroup.procs").write_text(str(os.getpid()))
        except OSError:
            self.folder.rmdir()
            raise

    def reclaim(self):
        """Takes back what can be; that it was not all is no fault."""
        with contextlib.suppress(OSError):
            (self.folder / self.reclaim_file).write_text(self.reclaim_text)

    def leave(self):
        (self.parent / "cgroup.procs").write_text(str(os.getpid()))
        self.folder.rmdir()


def enter():
    """A group that this process and all that it starts are in, or (None, why not)."""
    found = own_group()
    if found is None:
        return None, "no control groups"
    try:
        return Group(*found), None
    except OSError as error:
        return None, f"no control group of its own: {error}"
