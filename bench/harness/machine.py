"""The machine: what it is, how busy it is, and its caches."""

import contextlib
import mmap
import os
import platform
import subprocess
import time
from pathlib import Path


def is_root():
    return os.geteuid() == 0


def can_drop_caches():
    return is_root() and os.access("/proc/sys/vm/drop_caches", os.W_OK)


def can_use_fuse():
    return os.access("/dev/fuse", os.R_OK | os.W_OK)


def drop_caches(what=3):
    os.sync()
    # drop_caches passes over what is busy at that moment; a second time gets most of that.
    for _ in range(2):
        with open("/proc/sys/vm/drop_caches", "w") as file:
            file.write(f"{what}\n")


REPORTING_ORDER = Path("/sys/module/page_reporting/parameters/page_reporting_order")
# Larger than any block of free memory there is, so that none is reported.
NO_ORDER = 11


@contextlib.contextmanager
def kept_memory():
    """Keeps the host of a virtual machine from taking free memory back, where that can be.

    It would come back page by page, at the expense of whoever uses it first: after dropped
    caches that is a matter of luck, and can take several times as long as what is measured.
    Yields whether it could be done, None where no host does so."""
    try:
        before = REPORTING_ORDER.read_text()
    except OSError:
        yield None
        return
    try:
        REPORTING_ORDER.write_text(f"{NO_ORDER}\n")
    except OSError:
        yield False
        return
    try:
        use_free_memory()
        yield True
    finally:
        REPORTING_ORDER.write_text(before)


def use_free_memory():
    """Has the host give all of it."""
    for line in Path("/proc/meminfo").read_text().split("\n"):
        if line.startswith("MemFree:"):
            size = int(line.split()[1]) * 1024 * 9 // 10
            mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE).close()


def read_line(path, default=""):
    try:
        return Path(path).read_text().strip().split("\n")[0]
    except OSError:
        return default


def command_fields(command):
    try:
        text = subprocess.run(command, text=True, stdout=subprocess.PIPE, timeout=30,
                              stderr=subprocess.DEVNULL, env={**os.environ, "LC_ALL": "C"}).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    pairs = (line.partition(":") for line in text.split("\n"))
    return {key.strip(): value.strip() for key, _, value in pairs if value.strip()}


def available_memory():
    for line in Path("/proc/meminfo").read_text().split("\n"):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def mount_of(path):
    """(device, type, options) of the file system that holds a path."""
    done = subprocess.run(["findmnt", "-no", "SOURCE,FSTYPE,OPTIONS", "--target", str(path)],
                          text=True, stdout=subprocess.PIPE, timeout=30)
    words = done.stdout.split()
    return tuple(words[:3]) if len(words) >= 3 else ("?", "?", "?")


def disk_of(device):
    name = os.path.basename(os.path.realpath(device))
    for queue in (f"/sys/block/{name}/queue",
                  f"/sys/class/block/{name}/../queue"):
        if os.path.isdir(queue):
            return (f"scheduler {read_line(queue + '/scheduler')}, "
                    f"read-ahead {read_line(queue + '/read_ahead_kb')} KiB")
    return ""


def describe(path):
    cpu = command_fields(["lscpu"])
    device, kind, options = mount_of(path)
    os_release = {}
    for line in Path("/etc/os-release").read_text().split("\n"):
        key, _, value = line.partition("=")
        os_release[key] = value.strip('"')
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "system": os_release.get("PRETTY_NAME", "?"),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": f"{cpu.get('Model name', '?')}, {len(os.sched_getaffinity(0))} CPUs"
                     + (f", {cpu['Hypervisor vendor']} guest" if "Hypervisor vendor" in cpu
                        else ""),
        "caches": f"L2 {cpu.get('L2 cache', '?')}, L3 {cpu.get('L3 cache', '?')}",
        "memory": f"{total / 2**30:.1f} GiB",
        "file_system": f"{kind} on {device} ({options})",
        "disk": disk_of(device),
    }


def cpu_ticks():
    """(all, idle) of all CPUs so far; what the host took away is not idle."""
    fields = [int(word) for word in read_line("/proc/stat").split()[1:9]]
    return sum(fields), fields[3] + fields[4]


def busy_fraction(seconds=1.0):
    """The part of all CPUs' time that others use while this process waits."""
    ticks, idle = cpu_ticks()
    time.sleep(seconds)
    ticks_after, idle_after = cpu_ticks()
    passed = ticks_after - ticks
    return 1 - (idle_after - idle) / passed if passed else 0.0
