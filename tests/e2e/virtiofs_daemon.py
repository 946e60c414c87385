"""cairn virtiofs under test."""
import pathlib

from harness import CAIRN, Daemon

# What sanitizers do themselves (tracing at the end, a symbolizer in a process of its own), the
# sandbox refuses.
SANITIZED = CAIRN.exists() and any(mark in CAIRN.read_bytes()
                                   for mark in (b"__asan_init", b"__tsan_init"))


class VirtiofsDaemon(Daemon):
    """A process that serves guests through `socket`."""

    def __init__(self, store, socket, args, log, *, prefix=(), program=CAIRN,
                 sandbox=not SANITIZED, place=None, **kw):
        """place: what stands for the socket on the command line."""
        self.socket = pathlib.Path(socket)
        super().__init__([*prefix, program, "--store", store.path, "virtiofs",
                          *([] if sandbox else ["--sandbox=none"]), *args,
                          *([socket] if place is None else place)], log, **kw)

    def wait_ready(self):
        self.wait_logged("listening")
