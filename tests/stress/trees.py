"""The trees that the stress reads, and what reading them must give."""
import hashlib
import json
import os
import subprocess

import harness

FIO_BLOCK = 4096
# Packed with others, and on its own.
FIO_FILES = {"small": 192 << 10, "large": 64 << 20}
# Without the file of its state that fio leaves where it was started.
FIO_VERIFY = ("--verify=crc32c", f"--verify_interval={FIO_BLOCK}", "--verify_state_save=0")
# Sizes around what blobs, packs, pages and requests are divided by.
SIZES = (0, 1, 511, 4095, 4096, 4097, 16000, 65536, 131072, 131073, 262143, 262144, 262145)


def fill(top, rng, files):
    """Any tree: the same for the same state of rng."""
    top.mkdir()
    folders = [top]
    for number in range(files):
        folder = rng.choice(folders[-40:])
        kind = rng.random()
        name = f"{number:05}-{rng.randrange(1 << 30):x}"
        if kind < 0.12:
            folders.append(folder / name)
            folders[-1].mkdir()
        elif kind < 0.18:
            (folder / name).symlink_to(rng.choice(("nowhere", "../..", "." * 200)))
        else:
            size = rng.choice(SIZES) if kind < 0.3 else int(rng.lognormvariate(8.5, 1.5))
            harness.write(folder / name, rng.randbytes(size), 0o755 if kind > 0.9 else 0o644)
    harness.write(top / "large", rng.randbytes(rng.randrange(1 << 20, 6 << 20)))


def fill_for_fio(top):
    """Files in which each block says what it must be."""
    top.mkdir()
    for name, size in FIO_FILES.items():
        harness.run(["fio", "--name=write", f"--filename={top / name}", f"--size={size}",
                     "--rw=write", f"--bs={FIO_BLOCK}", *FIO_VERIFY, "--do_verify=0"])


def fio_read(top, rng, engine, seconds):
    """Reads at random places for a while; the bytes that were right."""
    name = rng.choice(list(FIO_FILES))
    size = FIO_FILES[name]
    block = rng.choice([bs for bs in (4096, 16384, 65536, 1 << 20) if bs < size])
    done = harness.run(
        ["fio", "--name=read", "--readonly", f"--filename={top / name}", f"--size={size}",
         f"--rw={rng.choice(('randread', 'read'))}", f"--ioengine={engine}", *FIO_VERIFY,
         f"--bs={block}", "--verify_fatal=1", f"--randseed={rng.randrange(1 << 30)}",
         f"--runtime={seconds}", "--time_based", "--output-format=json"],
        timeout=seconds + harness.TIMEOUT)
    # Notes may stand before the JSON.
    job = json.loads(done.out[done.out.index("{"):])["jobs"][0]
    assert job["error"] == 0, done
    assert job["read"]["io_bytes"] > 0, done
    return job["read"]["io_bytes"]


def listing(top):
    """What find says of everything that a store keeps, in one order."""
    done = harness.run(["find", top, "-mindepth", "1", "-printf", r"%P\0%y\0%l\0"
                        r"%s\0%m\n"], timeout=4 * harness.TIMEOUT)
    lines = []
    for line in done.raw.split(b"\n")[:-1]:
        path, kind, target, size, mode = line.split(b"\0")
        # Sizes of directories mean nothing, and of modes only the owner's x is kept.
        lines.append((path, kind, target, size if kind != b"d" else b"",
                      kind == b"f" and bool(int(mode, 8) & 0o100)))
    return sorted(lines)


def archive(top):
    """(digest, bytes) of the tree as a tar, without what a store does not keep, nor modes."""
    args = ["tar", "--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--mode=0444", "-cf",
            "-", "-C", os.fspath(top), "."]
    digest, size = hashlib.sha256(), 0
    with subprocess.Popen(args, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        harness.live_processes.add(process)
        while piece := process.stdout.read(1 << 20):
            digest.update(piece)
            size += len(piece)
    harness.live_processes.discard(process)
    assert process.returncode == 0, f"tar: exit code {process.returncode}"
    return digest.hexdigest(), size


def tree_bytes(entries):
    return sum(len(value[2]) for value in entries.values() if value[0] == "file")
