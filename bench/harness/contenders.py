"""Who competes. One more line in CONTENDERS is one more contender.

Commands are lists of words with places to be filled in:

  {program}  the program measured     {tree}  the tree to be copied or imported
  {home}     a directory for what the contender keeps; empty before `fill`
  {address}  the same as a file:// address       {mnt}  an empty directory to mount on
  {out}      a path that does not exist yet, for `export`

and for NARs, the archives of Nix:

  {source}   what is to be archived, a folder or a file       {part}   a name for it
  {nar}      its archive, a file           {tools}  the directory of this benchmark's own clients

What a contender cannot do is left out (None) and its scenarios are skipped for it.
"""

import shutil
import urllib.parse
from dataclasses import dataclass, replace

NAME = "tree"


@dataclass(frozen=True)
class Contender:
    name: str
    about: str
    fill: tuple | None = None  # copies or imports {tree} into {home}
    refill: tuple | None = None  # again, when nothing has changed
    recheck: tuple | None = None  # again, reading every byte
    mount: tuple | None = None  # returns when {mnt} can be used; a daemon may stay behind
    umount: tuple | None = None
    view: str = "{tree}"  # where the tree is then
    export: tuple | None = None  # from {home} (or the tree) to {out}
    nar_fill: tuple | None = None  # keeps {source} in {home} as {part}, to be archived from there
    nar_dump: tuple | None = None  # the archive of {part} or {source} to its output
    nar_hash: tuple | None = None  # the SHA-256 of that archive
    nar_unpack: tuple | None = None  # from {nar} to {out}
    nar_result: tuple | None = None  # the archive of what is in {out}; not timed
    program: str = ""
    ours: bool = False  # the project's aims are for it
    needs: tuple = ()  # programs that its commands start
    needs_root: bool = False
    needs_fuse: bool = False  # to mount; without it only the rest is measured
    slow: bool = False  # takes trees in only in the first round
    home_of: str = ""  # the contender whose {home} it uses, filled by the same command
    default: bool = True  # False: only when named by --contenders

    def missing(self, is_root):
        """Why it cannot compete here, or None."""
        if self.needs_root and not is_root:
            return "needs root"
        commands = (self.fill, self.mount, self.export, self.nar_dump, self.nar_hash)
        for word in (self.program, *(command[0] for command in commands if command), *self.needs):
            if word and "{" not in word and not shutil.which(word):
                return f"{word} is not there"
        return None

    @property
    def can_be_seen(self):
        """Whether there is something to walk and read: a mount, or plain files."""
        return bool(self.fill) and (bool(self.mount) or "{mnt}" not in self.view)

    @property
    def keeps_home(self):
        """Whether what was filled is needed again; if not, its space is given back at once."""
        return bool(self.mount or (self.refill and self.export))

    def unmounted(self):
        return replace(self, mount=None, umount=None)

    def words(self, command, **places):
        address = "file://" + urllib.parse.quote(str(places.get("home", "")))
        return [word.format(program=self.program, address=address, **places) for word in command]


def cairn(name, about, *, program="", to_import=(), to_mount=(), default=True):
    """A cairn with these options; program is filled in by --cairn when it is empty."""
    start = ("{program}", "--store", "{address}/store")
    first = (*start, "import", "{tree}", "--name", NAME, *to_import)
    unpacked = ("{program}", "--store", "{out}/store")
    return Contender(
        name, about, program=program, ours=True, needs_fuse=True,
        default=default,
        fill=first, refill=first, recheck=(*first, "--no-cache"),
        mount=(*start, "mount", "{mnt}", "--list-root", *to_mount),
        umount=("{program}", "umount", "{mnt}"),
        view="{mnt}/" + NAME,
        export=(*start, "export", NAME, "{out}"),
        nar_fill=(*start, "import", "{source}", "--name", "{part}"),
        nar_dump=(*start, "nar", "dump", "{part}"),
        nar_hash=(*start, "nar", "hash", "{part}"),
        nar_unpack=(*unpacked, "nar", "import", "--name", "{part}", "{nar}"),
        nar_result=(*unpacked, "nar", "dump", "{part}"))


def mounted_otherwise(other, name, about, to_mount):
    """The store of another contender, mounted with these options; all else is the other's."""
    start = ("{program}", "--store", "{address}/store")
    return Contender(
        name, about, ours=True, needs_fuse=True, home_of=other.name, fill=other.fill,
        mount=(*start, "mount", "{mnt}", "--list-root", *to_mount), umount=other.umount,
        view=other.view)


def shell(command):
    """For what takes two commands: {home} is $0, {tree} is $1 in it."""
    return ("sh", "-ec", command, "{home}", "{tree}")


NATIVE = "native"
# Ours, as the aims tell them apart.
CACHED = "cairn"
PASSED = "cairn-pass"
MKSQUASHFS = ("mksquashfs", "{tree}", "{home}/image", "-comp", "zstd", "-quiet", "-no-progress")
RESTIC = "export RESTIC_PASSWORD=x RESTIC_CACHE_DIR=$0/cache; "
NIX_ADD = ("nix-store", "--store", "{home}/nix", "--add", "{tree}")
# What archives are measured against; these do nothing else.
NIX = "nix"
SHA256 = "sha256"

CONTENDERS = (
    Contender(NATIVE, "cp -a on the same file system", fill=("cp", "-a", "{tree}", "{home}/tree"),
              export=("cp", "-a", "{tree}", "{out}")),
    cairn(CACHED, "cairn as it comes"),
    mounted_otherwise(cairn(CACHED, ""), PASSED, "large files read by the kernel",
                      ("--io", "passthrough")),
    cairn("cairn-1", "one thread each", to_import=("--threads", "1"), to_mount=("--threads", "1"),
          default=False),
    Contender("squashfs", "mksquashfs (zstd) and the kernel's reader", needs_root=True, slow=True,
              fill=MKSQUASHFS, mount=("mount", "-o", "loop,ro", "{home}/image", "{mnt}"),
              umount=("umount", "{mnt}"), view="{mnt}", default=False),
    Contender("squashfuse", "the same image through squashfuse_ll", needs_fuse=True,
              home_of="squashfs",
              fill=MKSQUASHFS, mount=("squashfuse_ll", "{home}/image", "{mnt}"),
              umount=("umount", "{mnt}"), view="{mnt}", needs_root=True, default=False),
    Contender("erofs", "mkfs.erofs and the kernel's reader", needs_root=True,
              fill=("mkfs.erofs", "--quiet", "{home}/image", "{tree}"),
              mount=("mount", "-t", "erofs", "-o", "loop,ro", "{home}/image", "{mnt}"),
              umount=("umount", "{mnt}"), view="{mnt}", default=False),
    Contender("casync", "casync make, chunks in a store", view="{mnt}", slow=True, default=False,
              fill=("casync", "make", "--store={home}/store.castr", "{home}/tree.caidx", "{tree}"),
              refill=("casync", "make", "--store={home}/store.castr", "{home}/tree.caidx",
                      "{tree}"),
              export=("casync", "extract", "--store={home}/store.castr", "{home}/tree.caidx",
                      "{out}")),
    Contender("restic", "restic backup", view="{mnt}", needs=("restic",), slow=True,
              default=False,
              fill=shell(RESTIC + "restic -q -r $0/repo init; restic -q -r $0/repo backup $1"),
              refill=shell(RESTIC + "restic -q -r $0/repo backup $1")),
    Contender("borg", "borg create", view="{mnt}", needs=("borg",), slow=True, default=False,
              fill=shell("borg init -e none $0/repo; borg create $0/repo::first $1"),
              refill=shell("borg create $0/repo::second $1")),
    Contender("ostree", "ostree commit, a file per object", view="{mnt}", needs=("ostree",),
              slow=True, default=False,
              fill=shell("ostree init --repo=$0/repo --mode=bare-user; "
                         "ostree commit --repo=$0/repo --branch=tree --tree=dir=$1"),
              refill=shell("ostree commit --repo=$0/repo --branch=tree --tree=dir=$1")),
    Contender("nix-add", "nix-store --add into a store of its own", view="{mnt}", slow=True,
              default=False, fill=NIX_ADD, refill=NIX_ADD),
    Contender(NIX, "nix-store and nix-hash, from and to plain files",
              nar_dump=("nix-store", "--dump", "{source}"),
              nar_hash=("nix-hash", "--type", "sha256", "--base32", "{source}"),
              nar_unpack=("sh", "-c", 'exec nix-store --restore "$0" <"$1"', "{out}", "{nar}"),
              nar_result=("nix-store", "--dump", "{out}")),
    Contender(SHA256, "SHA-256 (OpenSSL) of the archive in memory, on one core",
              nar_hash=("{tools}/sha256", "{nar}")),
)


def choose(names, program, also):
    """The contenders with these names (default: those that are on by default); also holds
    (name, program) pairs, other builds of cairn to be compared with."""
    table = [replace(one, program=str(program)) if one.ours else one
             for one in CONTENDERS]
    table += [cairn(name, f"cairn, {path}", program=str(path)) for name, path in also]
    known = {one.name: one for one in table}
    if len(known) != len(table):
        raise ValueError("two contenders have the same name")
    if not names:
        return [one for one in table if one.default]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"no contender {', '.join(unknown)}; there are {', '.join(known)}")
    # Everything is compared with native.
    return [one for one in table if one.name in names or one.name == NATIVE]
