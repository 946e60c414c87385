"""A wire between a client and a server that tests can cut, hold, and make slow."""
import contextlib
import select
import socket
import threading
import time

PIECE = 64 * 1024


class Wire:
    """Forwards connections from one unix socket to another.

    `up` and `down` count bytes, to the server and from it. Set at any time, for connections that
    are there and those to come: `held`, nothing goes through in either direction; `rate`, so many
    bytes a second from the server; `cut_after`, everybody is cut off when `down` reaches it.
    """

    def __init__(self, path, target):
        self.path, self.target = path, target
        self.up = self.down = self.accepted = 0
        self.held, self.rate, self.cut_after, self.up_max = False, None, None, None
        self._ended = threading.Event()
        self._pairs = set()
        self._threads = []
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(256)
        self._start(self._accept)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._ended.set()
        # Wakes who waits in accept.
        self._listener.shutdown(socket.SHUT_RDWR)
        self.cut()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def cut(self):
        """Ends all connections; new ones are still accepted."""
        with self._lock:
            for pair in self._pairs:
                for end in pair:
                    with contextlib.suppress(OSError):
                        end.shutdown(socket.SHUT_RDWR)

    def _start(self, function, *args):
        thread = threading.Thread(target=function, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self):
        while not self._ended.is_set():
            try:
                near = self._listener.accept()[0]
            except OSError:
                return
            self.accepted += 1
            far = socket.socket(socket.AF_UNIX)
            try:
                far.connect(str(self.target))
            except OSError:
                near.close()
                far.close()
                continue
            with self._lock:
                self._pairs.add((near, far))
            self._start(self._forward, near, far)

    def _forward(self, near, far):
        poll = select.poll()
        for end in (near, far):
            poll.register(end, select.POLLIN)
        ways = {near.fileno(): (near, far, False), far.fileno(): (far, near, True)}
        sent = 0
        with contextlib.suppress(OSError):
            while not self._ended.is_set():
                if self.held:
                    self._ended.wait(0.01)
                    continue
                ready = [fd for fd, _ in poll.poll(20)]
                if not all(self._pass(*ways[fd]) for fd in ready):
                    break
                sent += PIECE * (near.fileno() in ready)
                if self.up_max is not None and sent >= self.up_max:
                    poll.modify(near, 0)
        with self._lock:
            self._pairs.discard((near, far))
        near.close()
        far.close()

    def _pass(self, source, sink, down):
        """One piece; false at the end."""
        data = source.recv(1 if down and self.rate else PIECE)
        if not data:
            return False
        if down and self.rate:
            time.sleep(1 / self.rate)
        sink.sendall(data)
        if down:
            self.down += len(data)
            if self.cut_after is not None and self.down >= self.cut_after:
                self.cut()
        else:
            self.up += len(data)
        return True
