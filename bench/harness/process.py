"""Runs programs: each with a time limit, with what it used, and with nothing left behind.

Daemons that a command leaves in the background become children of this process (it is a "child
subreaper"), so that they can be found, sampled, awaited and, if they hang, killed by their id.
"""

import ctypes
import os
import select
import signal
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass

PR_SET_CHILD_SUBREAPER = 36
SAMPLE_SECONDS = 0.05
TAIL_BYTES = 2000


class RunError(Exception):
    pass


@dataclass
class Finished:
    seconds: float
    cpu_seconds: float
    max_rss: int  # bytes; never below that of this process, which it was forked from
    peak_rss: int  # bytes, sampled VmHWM; 0 when not sampled
    peak_anon: int  # bytes, sampled RssAnon
    output: str


def adopt_daemons():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def children(pid="self"):
    """The ids of all children, on whatever thread they were started; none of what is gone."""
    found = set()
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except FileNotFoundError:
        return found
    for task in tasks:
        try:
            with open(f"/proc/{pid}/task/{task}/children") as file:
                found.update(int(word) for word in file.read().split())
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


def families(pids):
    """The same processes, and what they have started themselves: a server, kept by another."""
    found, left = set(), list(pids)
    while left:
        pid = left.pop()
        if pid not in found:
            found.add(pid)
            left.extend(children(pid))
    return found


def memory(pid):
    """{VmHWM, VmRSS, RssAnon, ...} of a process in bytes; empty when it is gone."""
    found = {}
    try:
        with open(f"/proc/{pid}/status") as file:
            for line in file:
                key, _, value = line.partition(":")
                if value.endswith(" kB\n"):
                    found[key] = int(value.split()[0]) * 1024
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def cpu_seconds(pid):
    """User and system time of a process with all its threads."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Sampler:
    """Watches the memory of a process until it ends."""

    def __init__(self, pid):
        self.peak_rss = 0
        self.peak_anon = 0
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self):
        while True:
            seen = memory(self._pid)
            self.peak_rss = max(self.peak_rss, seen.get("VmHWM", 0))
            self.peak_anon = max(self.peak_anon, seen.get("RssAnon", 0))
            if self._over.wait(SAMPLE_SECONDS):
                return

    def stop(self):
        self._over.set()
        self._thread.join()


def read_tail(file):
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - TAIL_BYTES))
    return file.read().decode(errors="replace").strip()


def await_exit(pid, timeout):
    """Whether a child ended within timeout seconds; it is not reaped."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(max(0, timeout) * 1000))
    finally:
        os.close(fd)


def run(command, timeout, *, sample=False):
    """Runs a command to its end; RunError when it fails or takes longer than timeout seconds.

    Its output goes to files, not pipes: a daemon that it leaves behind may keep them open.
    """
    words = [str(word) for word in command]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        start = time.monotonic()
        try:
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=errors,
                                       start_new_session=True)
        except OSError as error:
            raise RunError(f"{words[0]}: {error.strerror}") from None
        sampler = Sampler(process.pid) if sample else None
        ended = False
        try:
            ended = await_exit(process.pid, timeout)
            seconds = time.monotonic() - start
        finally:
            if not ended:
                os.killpg(process.pid, signal.SIGKILL)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if sampler:
                sampler.stop()
        if not ended:
            raise RunError(f"{' '.join(words)}: not done after {timeout:g} seconds, killed")
        if process.returncode != 0:
            raise RunError(f"{' '.join(words)}: status {process.returncode}\n{read_tail(errors)}")
        return Finished(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024,
                        sampler.peak_rss if sampler else 0, sampler.peak_anon if sampler else 0,
                        read_tail(out))


def kill_child(pid):
    """Kills and reaps one child; no error when it is gone already."""
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def end_daemon(pid, timeout):
    """Waits for a daemon that was told to end. Kills it if it does not, which is an error."""
    if await_exit(pid, timeout):
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:
            pass
    else:
        kill_child(pid)
        raise RunError(f"the daemon {pid} was still there {timeout:g} seconds after the unmount")
