"""cairn virtiofs, seen by real guests."""
import concurrent.futures
import contextlib
import hashlib
import os
import pathlib
import shutil
import stat
import tempfile

import pytest

import harness
from conftest import Guests, VirtiofsDaemons
from harness import HELPERS, SLOW, Store, pattern, run, wait_until, write
from nix_paths import StorePath
from virtiofs_daemon import SANITIZED

SMALL_FILES = 1_000
ENTRIES = 10_000
# Around every edge: pages, the store's limit for packed blobs, groups of checked bytes.
SIZES = [0, 1, 4095, 4096, 4097, 16383, 16384, 16385, 65536, 131071, 131072, 131073, 1 << 20,
         (1 << 20) + 17, 5_000_000]
# The guest hashes some 16 MB a second.
LARGEST = (256 if SLOW == 1 else 16) << 20
READ_ONLY = "Read-only file system"
MOUNT = "mount -t virtiofs fs0 /mnt"


def make_tree(top):
    """At least ENTRIES entries, deep and wide, with odd names."""
    for number in range(SMALL_FILES):
        write(top / f"small/{number:04}", f"file {number}\n" * (number % 50))
    for size in SIZES:
        write(top / f"sizes/{size}", pattern(size, size + 1))
    write(top / "sizes/largest", pattern(LARGEST, 3))
    for name in ("with space", "ünïcode", "-dash", "star*", "n" * 255, 'quote"\'', "back\\slash",
                 "\udcff\udcfe"):
        write(top / "odd" / name, "odd\n")
    write(top / "/".join(f"deep{number}" for number in range(40)) / "bottom", "bottom\n")
    write(top / "run", "#!/bin/sh\necho it runs: $1\n", 0o755)
    os.symlink("small/0001", top / "link")
    os.symlink("nowhere/at/all", top / "dangling")
    os.symlink("t" * 4000, top / "long-link")
    wide = ENTRIES - SMALL_FILES
    for number in range(wide // 9):
        folder = top / f"wide/{number % 30}/{number}"
        folder.mkdir(parents=True)
        for name in range(6):
            write(folder / f"file{name}", f"{number * name % 97}\n")
        os.symlink(f"../{number}", folder / "self")
        os.symlink("file1", folder / "one")


def listing(top):
    """What LISTING prints below `top` in a guest."""
    lines = []

    def add(path, relative, mode):
        size = b"0" if stat.S_ISDIR(mode) else b"%d" % os.lstat(path).st_size
        lines.append(b"%x %s %s" % (mode, size, relative))

    for folder, folders, names in os.walk(os.fsencode(top)):
        relative = b"." + folder[len(os.fsencode(top)):]
        add(folder, relative, stat.S_IFDIR | 0o555)
        for name in folders + names:
            path = os.path.join(folder, name)
            st = os.lstat(path)
            if stat.S_ISLNK(st.st_mode):
                add(path, os.path.join(relative, name), stat.S_IFLNK | 0o444)
            elif stat.S_ISREG(st.st_mode):
                add(path, os.path.join(relative, name),
                    stat.S_IFREG | (0o555 if st.st_mode & 0o100 else 0o444))
    return sorted(lines)


LISTING = ("cd /mnt/tree && (find . -type d -exec stat -c '%f 0 %n' {} + &&"
           " find . ! -type d -exec stat -c '%f %s %n' {} +) | sort")


def hashes(top, folder):
    """Lines for sha256sum -c below /mnt/tree."""
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  /mnt/tree/{folder}/{path.name}\n"
             for path in sorted((top / folder).iterdir())]
    return "".join(lines).encode()


class World:
    """One store with a tree, one daemon and one guest that has it mounted, for many tests."""

    def __init__(self, folder):
        self.tree = folder / "tree"
        make_tree(self.tree)
        self.lines = listing(self.tree)
        self.store = Store(folder / "store")
        self.imported = self.store.add(self.tree, "tree")
        self.files = {
            "/sums/small": hashes(self.tree, "small"),
            "/sums/sizes": hashes(self.tree, "sizes"),
            "/bin/guest_xattr": HELPERS / "guest_xattr",
        }
        self.daemons = VirtiofsDaemons(folder)
        self.guests = Guests(folder)
        self.daemon = self.daemons(self.store, "--xattr")
        self.guest = self.boot()

    def boot(self, **kw):
        guest = self.guests(self.daemon, files=self.files, **kw)
        guest.run(MOUNT)
        return guest

    def check_names(self, guest):
        found = os.fsencode(guest.run(LISTING).text.rstrip("\n")).split(b"\n")
        expected = set(self.lines)
        assert not [line for line in found if line not in expected]
        assert found == self.lines

    def check_contents(self, guest, what="small"):
        """The hash of every file; sha256sum prints those that differ."""
        assert guest.read(f"sha256sum -c /sums/{what} | grep -v ': OK$' || echo whole",
                          timeout=300) == "whole"

    def clean_up(self):
        self.guests.clean_up()
        harness.clean_up_daemons(self.daemons.made)


@pytest.fixture(scope="module")
def world(sanitizer_folder):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="cairn-e2e-"))
    world = None
    try:
        world = World(folder)
        yield world
    finally:
        if world:
            world.clean_up()
        shutil.rmtree(folder)


@pytest.fixture
def guest(world, boot):
    """The guest of them all. (boot: skips where there can be none.)"""
    return world.guest


def test_every_name_kind_mode_and_size(world, guest):
    assert len(world.lines) > ENTRIES
    world.check_names(guest)


def test_contents_of_small_files(world, guest):
    world.check_contents(guest)


def test_contents_by_size(world, guest):
    """0 bytes to 256 MiB."""
    world.check_contents(guest, "sizes")


def test_list_of_everything(world, guest):
    """The kernel reads attributes along with the names; ls shows them all."""
    count = guest.read("ls -lR /mnt/tree/wide | grep -c '^-r--r--r--    1 0 .* Jan  1  1970 file'")
    assert int(count) == 6 * len(list((world.tree / "wide").glob("*/*")))


def test_links(world, guest):
    assert guest.read("readlink /mnt/tree/link") == "small/0001"
    assert guest.read("cat /mnt/tree/link") == "file 1"
    assert guest.read("readlink /mnt/tree/long-link") == "t" * 4000
    assert "No such file" in guest.run("cat /mnt/tree/dangling", check=False).text
    assert guest.read("cat /mnt/tree/wide/3/3/self/one") == (
        world.tree / "wide/3/3/one").read_text().strip()


def test_programs_run(guest):
    assert guest.read("/mnt/tree/run now") == "it runs: now"
    assert "Permission denied" in guest.run("/mnt/tree/small/0001", check=False).text


def test_digests_as_attributes(world, guest):
    name = "user.snix.castore.directory.digest"
    assert guest.read(f"guest_xattr /mnt/tree {name}") == world.imported["digest"]
    names = guest.read("guest_xattr /mnt/tree/small/0001").split()
    assert "user.snix.castore.blob.digest" in names
    assert "No data" in guest.run("guest_xattr /mnt/tree user.other", check=False).text


@pytest.mark.parametrize("script", [
    "echo > /mnt/tree/new", "echo > /mnt/tree/run", "echo >> /mnt/tree/small/0001",
    "mkdir /mnt/tree/new", "rm /mnt/tree/run", "rmdir /mnt/tree/sizes",
    "mv /mnt/tree/run /mnt/tree/x", "ln /mnt/tree/run /mnt/tree/x", "ln -s x /mnt/tree/x", "chmod 700 /mnt/tree/run",
    "chown 1 /mnt/tree/run", "touch /mnt/tree/run", "truncate -s 0 /mnt/tree/run", "mkdir /mnt/new",
    "mknod /mnt/tree/x p",
])
def test_nothing_can_be_written(guest, script):
    done = guest.run(script, check=False)
    assert done.code != 0
    assert READ_ONLY in done.text, done


def test_unknown_tag(guest):
    done = guest.run("mount -t virtiofs other /tmp", check=False)
    assert done.code != 0


def test_unmount_and_mount_again(world, guest):
    for _ in range(3):
        guest.run("umount /mnt")
        guest.run(MOUNT)
    world.check_contents(guest)


def test_drop_caches(world, guest):
    """The kernel forgets, and asks again."""
    for _ in range(2):
        guest.run("echo 3 > /proc/sys/vm/drop_caches")
        world.check_names(guest)


def test_new_names_appear(world, guest):
    assert "No such file" in guest.run("ls /mnt/later", check=False).text
    world.store.add(world.tree / "odd", "later")
    assert guest.read("cat /mnt/later/-dash") == "odd"
    # The kernel looks at the root's listing again when a second has passed.
    wait_until(lambda: guest.read("ls -1 /mnt") == "later\ntree", "the new name in the listing")


def test_pause(world, guest):
    """As for a snapshot: the rings stop where they are, and go on there, without a new session."""
    guest.run("echo 3 > /proc/sys/vm/drop_caches")
    nonce = guest.send("sha256sum -c /sums/small | grep -c ': OK$'")
    for _ in range(10):
        guest.monitor("stop", "cont")
    output = guest.receive(nonce)
    assert output.text.strip() == str(SMALL_FILES)


def test_reboot(world, guest):
    """The guest begins anew behind a connection that stays."""
    for _ in range(2):
        guest.reboot()
        guest.run(MOUNT)
        world.check_contents(guest)
        world.check_names(guest)


def test_two_guests_at_once(world, guest):
    other = world.boot()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for job in [pool.submit(world.check_names, other),
                    pool.submit(world.check_contents, guest)]:
            job.result()
        for job in [pool.submit(world.check_contents, other),
                    pool.submit(world.check_names, guest)]:
            job.result()
    other.power_off()
    world.check_contents(guest)


def test_guest_that_dies(world, guest):
    """Killed in the middle of reading, several times; the others do not notice."""
    descriptors, threads = world.daemon.descriptors(), world.daemon.threads()
    for _ in range(3):
        other = world.boot()
        other.send("cat /mnt/tree/sizes/* /mnt/tree/small/*")
        guest.run("echo 3 > /proc/sys/vm/drop_caches")
        world.check_contents(guest)
        other.kill()
    harness.wait_until(lambda: world.daemon.descriptors() == descriptors
                       and world.daemon.threads() == threads, "what the guests used is given back")
    world.check_contents(guest)


@pytest.mark.parametrize("options", ["queue-size=128", "queue-size=16",
                                     "queue-size=1024,num-request-queues=2"])
def test_other_queues(world, guest, options):
    other = world.boot(options=options)
    world.check_contents(other)
    assert other.read("sha256sum /mnt/tree/sizes/5000000").split()[0] == hashlib.sha256(
        (world.tree / "sizes/5000000").read_bytes()).hexdigest()
    other.power_off()


def test_end_of_the_daemon(store, sample, virtiofs, boot):
    """With a guest attached."""
    store.add(sample, "sample")
    daemon = virtiofs(store)
    guest = boot(daemon)
    guest.run(MOUNT)
    assert guest.read("cat /mnt/sample/hello") == "hello"
    assert daemon.stop() == 0
    assert not daemon.socket.exists()
    # The guest lives on; what it has in memory stays.
    assert guest.read("cat /mnt/sample/hello") == "hello"


def test_once(store, sample, virtiofs, boot):
    store.add(sample, "sample")
    daemon = virtiofs(store, "--once")
    guest = boot(daemon)
    guest.run(MOUNT)
    guest.reboot()
    guest.run(MOUNT)
    assert guest.read("cat /mnt/sample/hello") == "hello"
    guest.power_off()
    assert daemon.wait_exit() == 0
    assert not daemon.socket.exists()


@pytest.mark.skipif(SANITIZED, reason="sanitizers have memory of their own")
def test_memory_and_descriptors(store, virtiofs, boot):
    """
    Of a daemon whose guest walks over many entries, and forgets them. What it holds meanwhile is
    the directories that the guest knows. CAIRN_TEST_ENTRIES=1000000 takes a few minutes.
    """
    entries = int(os.environ.get("CAIRN_TEST_ENTRIES", "200000"))
    run([HELPERS / "wide_store", store.path, "wide", str(entries // 1000)], timeout=600)
    daemon = virtiofs(store)
    guest = boot(daemon)
    guest.run(MOUNT)
    descriptors, memory = daemon.descriptors(), daemon.own_memory()

    def walk():
        """(memory, descriptors) when the guest knows what it can keep, and forgets it then."""
        found = guest.read("find /mnt/wide | wc -l", timeout=entries / 1000)
        assert int(found) == 1 + entries // 1000 + entries
        held = daemon.own_memory(), daemon.descriptors()
        guest.run("echo 3 > /proc/sys/vm/drop_caches")
        return held

    walks = [walk() for _ in range(3)]
    assert walks[0][0] - memory < 100 * entries
    assert walks[0][1] <= descriptors + 4
    # Freed memory may stay with the process; what was forgotten does not come on top of it.
    assert walks[2][0] - walks[0][0] < 2 << 20
    assert walks[2][1] == walks[0][1]


def test_several_file_systems(store, sample, virtiofs, boot):
    """Two daemons, one of which shows no list of its root."""
    store.add(sample, "sample")
    guest = boot(virtiofs(store), virtiofs(store, list_root=False))
    guest.run("mkdir /a /b; mount -t virtiofs fs0 /a; mount -t virtiofs fs1 /b")
    assert guest.read("ls -1 /a") == "sample"
    assert "not permitted" in guest.run("ls /b", check=False).text
    assert guest.read("cat /b/sample/hello") == "hello"


def test_store_paths_of_nix(store, sample, virtiofs, boot):
    """A program from the guest's own /nix/store; paths that come later appear there."""
    first = StorePath(sample, "sample-1.0").put(store)
    guest = boot(virtiofs(store, "--nix"))
    guest.run("mkdir -p /nix/store; mount -t virtiofs fs0 /nix/store")
    assert guest.read("ls -1 /nix/store") == first.base
    assert guest.read(f"{first.path}/run") == "run"
    later = StorePath(write(sample.parent / "tool", "#!/bin/sh\necho later\n", 0o755), "tool")
    assert "No such file" in guest.run(f"ls {later.path}", check=False).text
    later.put(store)
    assert guest.read(later.path) == "later"
    assert "No such file" in guest.run(f"ls {later.path}x", check=False).text


@pytest.mark.root
def test_daemon_of_a_plain_user(folder, store, sample, virtiofs, boot):
    store.add(sample, "sample")
    harness.give_to_user(store.path)
    place = folder / "run"
    place.mkdir()
    harness.give_to_user(place)
    program = harness.executable_for_user(folder)
    daemon = virtiofs(store, socket=place / "socket", program=program,
                      prefix=harness.as_user())
    guest = boot(daemon)
    guest.run(MOUNT)
    assert guest.read("cat /mnt/sample/hello") == "hello"
    guest.power_off()
    with contextlib.suppress(ProcessLookupError):
        assert daemon.status("Uid").split()[0] == str(harness.plain_user().pw_uid)
