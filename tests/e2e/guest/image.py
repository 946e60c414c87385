"""What a guest boots: a kernel that tools/guest-kernel fetched, and an initramfs made here."""
import os
import pathlib
import platform
import shutil
import stat
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
PROJECT = HERE.parents[2]
QEMU = "qemu-system-x86_64"
BUSYBOX = pathlib.Path("/bin/busybox")


def kernel_folder():
    """Where tools/guest-kernel puts kernel and modules, or None where there can be none."""
    done = subprocess.run([PROJECT / "tools/guest-kernel", "--path"], capture_output=True,
                          text=True, check=False, timeout=60)
    return pathlib.Path(done.stdout.strip()) if done.returncode == 0 else None


def is_static(program):
    """A dynamic program names its interpreter near its beginning."""
    with open(program, "rb") as f:
        return b"/ld-linux" not in f.read(4096)


def missing():
    """Why no guest can run here, or None."""
    if platform.machine() != "x86_64":
        return "guests are only known for x86_64"
    if not shutil.which(QEMU):
        return f"no {QEMU}: install qemu-system-x86"
    if not BUSYBOX.exists() or not is_static(BUSYBOX):
        return "no static busybox: install busybox-static"
    if not (kernel_folder() / "vmlinuz").exists():
        return "no kernel for guests: run tools/guest-kernel"
    return None


class Archive:
    """A cpio archive of the format "newc", as the kernel unpacks it. Several may be joined."""

    def __init__(self):
        self.parts = []
        self.count = 0

    def entry(self, name, mode, content=b"", device=(0, 0)):
        encoded = os.fsencode(name) + b"\0"
        self.count += 1
        fields = [self.count, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(encoded), 0]
        head = b"070701" + b"".join(b"%08x" % field for field in fields) + encoded
        for part in (head, content):
            self.parts += [part, b"\0" * (-len(part) % 4)]

    def folder(self, name):
        self.entry(name, stat.S_IFDIR | 0o755)

    def file(self, name, content, mode=0o644):
        self.entry(name, stat.S_IFREG | mode, content)

    def end(self):
        self.entry("TRAILER!!!", 0)
        return b"".join(self.parts)


def initramfs(files):
    """files: {absolute path in the guest, "/FOLDER/NAME": path here, or bytes}; executable."""
    archive = Archive()
    for name in ("bin", "dev", "proc", "sys", "tmp", "mnt", "modules"):
        archive.folder(name)
    # For the messages of init before it has mounted anything.
    archive.entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    archive.file("bin/busybox", BUSYBOX.read_bytes(), 0o755)
    archive.file("init", (HERE / "init").read_bytes(), 0o755)
    for path in sorted(kernel_folder().glob("*.ko")):
        archive.file(f"modules/{path.name}", path.read_bytes())
    parents = {str(parent) for name in files for parent in pathlib.PurePath(name).parents}
    for folder in sorted(parents - {"/", "/bin"}):
        archive.folder(folder.lstrip("/"))
    for name, content in files.items():
        data = content if isinstance(content, bytes) else pathlib.Path(content).read_bytes()
        archive.file(name.lstrip("/"), data, 0o755)
    return archive.end()
