"""A way between a client and a daemon that can be watched, and blocked."""
import contextlib
import os
import socket
import threading


class Link:
    """Passes connections to a Unix socket on to another one, and counts the bytes."""

    def __init__(self, path, target):
        self.path, self.target = path, target
        self.sent = 0      # to the target
        self.received = 0  # from it
        self.open = threading.Event()
        self.open.set()
        self.lock = threading.Lock()  # guards what follows, and the counts
        self.sockets = []
        self.closing = False
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(os.fspath(path))
        self.listener.listen(64)
        self.threads = [threading.Thread(target=self.accept)]
        self.threads[0].start()

    def accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            try:
                far.connect(os.fspath(self.target))
            except OSError:
                near.close()
                far.close()
                continue
            pumps = [threading.Thread(target=self.pump, args=(near, far, "sent")),
                     threading.Thread(target=self.pump, args=(far, near, "received"))]
            with self.lock:
                self.sockets += [near, far]
                self.threads += pumps
            for pump in pumps:
                pump.start()

    def pump(self, source, sink, count):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                with self.lock:
                    setattr(self, count, getattr(self, count) + len(data))
                self.open.wait()
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def stall(self):
        """From now on nothing gets through, and nobody is told."""
        self.open.clear()

    def resume(self):
        self.open.set()

    def cut(self):
        """Ends the connections that there are."""
        with self.lock:
            for end in self.sockets:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.threads[0].join()
        self.cut()
        self.resume()
        for thread in self.threads[1:]:
            thread.join()
        for end in self.sockets:
            end.close()
