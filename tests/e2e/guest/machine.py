"""A guest that runs, and a shell in it."""
import base64
import contextlib
import json
import os
import pathlib
import re
import secrets
import select
import socket
import subprocess
import time

from guest import image

# QEMU interprets the guest's code: a guest takes seconds to boot, and nothing in it is fast.
BOOT_TIMEOUT = 120
RUN_TIMEOUT = 120
END_TIMEOUT = 30


class GuestError(Exception):
    """With what the guest and QEMU have printed."""


class Output:
    """Of a script in a guest."""

    def __init__(self, script, code, text):
        self.script = script
        self.code = code
        self.text = text

    def __repr__(self):
        return f"in the guest: {self.script}: exit {self.code}\n{self.text}"


def qemu_command(folder, devices, memory, options):
    """
    devices: (tag, socket) of each file system; options: more properties of theirs. Without KVM,
    which containers rarely have: so a test does the same everywhere. Emulated cmpxchg16b is
    faulty in Debian 12's QEMU: without.
    """
    command = [
        image.QEMU, "-accel", "tcg", "-cpu", "qemu64,-cx16", "-M", "q35", "-smp", "1",
        "-m", str(memory), "-object",
        f"memory-backend-memfd,id=memory,size={memory}M,share=on",
        "-machine", "memory-backend=memory",
        "-nodefaults", "-no-user-config", "-display", "none",
        "-kernel", str(image.kernel_folder() / "vmlinuz"), "-initrd", str(folder / "initramfs"),
        "-append", "console=ttyS0 quiet panic=-1",
        "-serial", f"file:{folder}/console",
        "-chardev", f"socket,id=shell,path={folder}/shell", "-serial", "chardev:shell",
        "-qmp", f"unix:{folder}/monitor,server=on,wait=off",
    ]
    for number, (tag, path) in enumerate(devices):
        command += [
            "-chardev", f"socket,id=fs{number},path={path}",
            "-device", f"vhost-user-fs-pci,chardev=fs{number},tag={tag},{options}",
        ]
    return command


class Guest:
    """
    A context manager. folder: an empty one for its sockets and logs. slow: a factor for all time
    limits, as the other side may be a slow build.
    """

    def __init__(self, folder, devices, *, files=None, memory=512,
                 options="queue-size=1024", slow=1):
        self.folder = pathlib.Path(folder)
        self.slow = slow
        self.boots = []
        self.scripts = {}
        self.pending = b""
        self.shell = None
        (self.folder / "initramfs").write_bytes(image.initramfs(files or {}))
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self.folder / "shell"))
            listener.listen(1)
            with open(self.folder / "qemu.log", "wb") as log:
                self.process = subprocess.Popen(
                    qemu_command(self.folder, devices, memory, options),
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            self.accept(listener)

    def accept(self, listener):
        deadline = time.monotonic() + BOOT_TIMEOUT * self.slow
        while not select.select([listener], [], [], 0.1)[0]:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise self.error("QEMU does not start")
        self.shell, _ = listener.accept()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.kill()
        if kind is not None and kind is not GuestError:
            print(self.log())

    def log(self):
        """What the guest's kernel and QEMU have printed."""
        lines = []
        for name in ("qemu.log", "console"):
            path = self.folder / name
            text = path.read_text(errors="replace") if path.exists() else ""
            lines += [f"---- {path}", text.replace("\r", "").rstrip()[-4000:]]
        return "\n".join(lines)

    def error(self, text, script=None):
        where = f" in the guest, with {script!r}" if script else ""
        return GuestError(f"{text}{where}\n{self.pending.decode(errors='replace')[-2000:]}\n"
                          f"{self.log()}")

    # ---- The shell ----

    def read_until(self, pattern, timeout, script=None):
        """Waits for a line; returns (what came before it, the match). A reboot is an error."""
        deadline = time.monotonic() + timeout * self.slow
        while True:
            found = re.search(pattern, self.pending, re.M)
            if found:
                before, self.pending = self.pending[: found.start()], self.pending[found.end():]
                return before, found
            if self.boots and re.search(rb"^READY ", self.pending, re.M):
                raise self.error("the guest booted again", script)
            left = deadline - time.monotonic()
            if left <= 0:
                raise self.error("no answer within the time limit", script)
            if select.select([self.shell], [], [], left)[0]:
                data = self.shell.recv(65536)
                if not data:
                    raise self.error("QEMU ended", script)
                self.pending += data

    def wait_boot(self):
        """Until the guest can be used; once after the start, and after each reboot()."""
        known, self.boots = self.boots, []
        _, found = self.read_until(rb"^READY (\S+)\n", BOOT_TIMEOUT)
        if found[1] in known:
            raise self.error("the guest did not boot again")
        self.boots = [*known, found[1]]
        return self

    def send(self, script):
        """Starts a script; returns what receive() wants. They run one after the other."""
        nonce = secrets.token_hex(8)
        encoded = base64.b64encode(script.encode()).decode()
        # The terminal's buffer; longer scripts are files of the guest.
        assert len(encoded) < 4000, "too long a script"
        self.scripts[nonce] = script
        self.shell.sendall(f"{nonce} {encoded}\n".encode())
        return nonce

    def receive(self, nonce, *, timeout=RUN_TIMEOUT):
        """The output of a script that was sent."""
        script = self.scripts.pop(nonce)
        pattern = rb"^\n?DONE " + nonce.encode() + rb" (\d+)\n"
        before, found = self.read_until(pattern, timeout, script)
        return Output(script, int(found[1]), before.decode(errors="surrogateescape"))

    def run(self, script, *, check=True, timeout=RUN_TIMEOUT):
        """Runs a script of busybox's shell."""
        output = self.receive(self.send(script), timeout=timeout)
        if check and output.code != 0:
            raise self.error(repr(output))
        return output

    def read(self, script, **kw):
        """The output of a script, without white space around it."""
        return self.run(script, **kw).text.strip()

    # ---- The machine ----

    def reboot(self):
        """From inside. QEMU and its connections stay."""
        self.send("reboot -f")
        self.wait_boot()

    def monitor(self, *commands):
        """Commands for QEMU itself, without arguments."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(END_TIMEOUT * self.slow)
            s.connect(str(self.folder / "monitor"))
            lines = s.makefile("r")
            for command in ("qmp_capabilities", *commands):
                s.sendall(json.dumps({"execute": command}).encode())
            replies = 0
            while replies <= len(commands):
                message = json.loads(lines.readline())
                if "error" in message:
                    raise self.error(f"QEMU refuses: {message}")
                replies += "return" in message

    def power_off(self):
        self.send("poweroff -f")
        try:
            code = self.process.wait(END_TIMEOUT * self.slow)
        except subprocess.TimeoutExpired:
            raise self.error("the guest does not power off") from None
        if code != 0:
            raise self.error(f"QEMU ended with {code}")

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.shell:
            self.shell.close()
        with contextlib.suppress(OSError):
            os.unlink(self.folder / "initramfs")
