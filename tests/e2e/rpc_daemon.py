"""cairn daemon under test."""
import contextlib
import pathlib
import socket

from harness import CAIRN, Daemon


def free_port():
    with contextlib.closing(socket.socket()) as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class RpcDaemon(Daemon):
    """A process that serves a store on a unix socket or, with a port, on TCP.

    `target` is its address for gRPC, `address` what cairn's --store takes.
    """

    def __init__(self, store, log, *args, socket_path=None, port=None, tls=False, prefix=(),
                 program=CAIRN, **kw):
        """store: a harness.Store, or any address."""
        if port is None:
            self.socket = pathlib.Path(socket_path)
            listen, self.target = f"unix:{self.socket}", f"unix:{self.socket}"
            self.address = f"grpc+unix://{self.socket}"
        else:
            listen, self.target = f"tcp:127.0.0.1:{port}", f"127.0.0.1:{port}"
            self.address = f"grpc+{'https' if tls else 'http'}://{self.target}"
        super().__init__([*prefix, program, "--store", getattr(store, "path", store), "daemon",
                          f"--listen={listen}", *args], log, **kw)

    def wait_ready(self):
        self.wait_logged("listening")
