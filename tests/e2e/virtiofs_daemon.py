"""cairn virtiofs under test."""
import os
import pathlib
import signal
import subprocess

from harness import CAIRN, TIMEOUT, environment, live_processes, start, wait_until

# What sanitizers do themselves (tracing at the end, a symbolizer in a process of its own), the
# sandbox refuses.
SANITIZED = any(mark in CAIRN.read_bytes() for mark in (b"__asan_init", b"__tsan_init"))


class Daemon:
    """A process that serves guests through `socket`."""

    def __init__(self, store, socket, args, log, *, prefix=(), program=CAIRN, env=None,
                 sandbox=not SANITIZED, place=None, **kw):
        """place: what stands for the socket on the command line."""
        self.socket = pathlib.Path(socket)
        self.log_path = pathlib.Path(log)
        self.code = None
        with open(log, "wb") as f:
            self.process = start(
                [*prefix, program, "--store", store.path, "virtiofs",
                 *([] if sandbox else ["--sandbox=none"]), *args,
                 *([socket] if place is None else place)],
                stdin=subprocess.DEVNULL, stdout=f, stderr=f, env=environment(env), **kw)

    @property
    def pid(self):
        return self.process.pid

    def log(self):
        return self.log_path.read_text(errors="surrogateescape")

    def wait_ready(self):
        def ready():
            assert self.process.poll() is None, f"the daemon ended: {self.log()}"
            return "listening" in self.log()

        wait_until(ready, "listening")

    def wait_exit(self):
        """The exit code."""
        if self.code is None:
            self.code = self.process.wait(TIMEOUT / 2)
            live_processes.discard(self.process)
        return self.code

    def stop(self, number=signal.SIGTERM):
        """Sends a signal and returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait_exit()

    def clean_up(self):
        """Ends it if it has not ended; false when that took force."""
        clean = True
        if self.code is None:
            try:
                clean = self.stop() == 0
            except subprocess.TimeoutExpired:
                clean = False
                self.process.kill()
                self.wait_exit()
        return clean

    # ---- What the system says of it ----

    def status(self, name):
        """A field of /proc/PID/status."""
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            key, _, value = line.partition(":")
            if key == name:
                return value.strip()
        raise KeyError(name)

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def threads(self):
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def own_memory(self):
        """Bytes that are no files and no guest's."""
        return int(self.status("RssAnon").split()[0]) * 1024
