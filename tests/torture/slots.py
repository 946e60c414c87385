"""What goes on at the same time: each slot runs one command after another, some of them killed."""
import contextlib
import json
import random
import socket
import threading
import time

import harness

from . import trees
from .victims import NEVER, Victim, was_killed

TREES = 4
# How much is done of a write by which a command ends.
WRITES = (None, "half", "whole")


class Fault(Exception):
    """What must not be."""


class Slot:
    """Commands on two stores, and the names that only they change."""

    def __init__(self, torture, number):
        self.torture = torture
        self.number = number
        self.rng = random.Random(f"{torture.seed} {torture.round} {number}")
        self.folder = torture.folder / f"slot{number}"
        self.folder.mkdir(exist_ok=True)
        self.serial = 0
        self.trees = [self.new_tree() for _ in range(TREES)]
        self.own = [set(), set()]  # names in each store

    # ---- Trees ----

    def new_tree(self):
        self.serial += 1
        name = f"r{self.torture.round}-s{self.number}-t{self.serial}"
        return trees.Tree(self.folder, name, self.rng)

    def some_tree(self):
        """New, changed or as it was."""
        tree = self.rng.choice(self.trees)
        roll = self.rng.random()
        if roll < 0.4:
            tree.change(self.rng)
        elif roll < 0.6:
            trees.remove(tree.path)
            self.trees.remove(tree)
            tree = self.new_tree()
            self.trees.append(tree)
        return tree

    def held(self, number):
        """Names in a store."""
        return [name for name in sorted(self.own[number])
                if self.torture.ledgers[number].has(name) is not None]

    # ---- Running ----

    def counter(self, number=0):
        return self.folder / f"calls{number}"

    def attempt(self, kind, number, args, changes, fails=(), plan=None):
        """Runs a command on a store. changes: [(store, name, digest)], if it succeeds."""
        for store, name, digest in changes:
            self.own[store].add(name)
            self.torture.ledgers[store].may(name, digest)
        plan = plan or self.torture.habits.plan(self.rng, kind)
        victim = Victim([harness.CAIRN, "--store", self.torture.stores[number].path, *args],
                        plan, self.counter(), write=self.rng.choice(WRITES))
        begin = time.monotonic()
        result = victim.wait()
        self.torture.ran(kind, victim, result, time.monotonic() - begin)
        if result.code == 0:
            for store, name, digest in changes:
                self.torture.ledgers[store].must(name, digest)
        elif not was_killed(result) and result.code not in fails:
            raise Fault(f"{victim}: exit {result.code}: {result.err}")
        return result

    def check(self):
        """The stores open, and have of this slot's names what they must."""
        for number, store in enumerate(self.torture.stores):
            if not self.own[number]:
                continue
            # What a killed writer committed last may be seen only once there is another writer:
            # only that one finds that it died.
            nobody = store.cairn("roots", "remove", "nobody", check=False)
            assert nobody.code == 3, nobody
            found = self.torture.names(store)
            for name in self.own[number]:
                fault = self.torture.ledgers[number].settle(name, found.get(name))
                if fault:
                    raise Fault(f"{store.path}: {fault}")
            # Beside the other slots, which go on.
            store.cairn("fsck", "--quiet")

    # ---- What may be done ----

    def do_import(self):
        several = {tree.name: tree for tree in
                   (self.some_tree() for _ in range(self.rng.choice((1, 1, 3))))}
        several = {name: tree for name, tree in several.items() if tree in self.trees}
        digests = {name: self.torture.forest.digest(tree.path)
                   for name, tree in several.items()}
        options = ["--no-cache"] if self.rng.random() < 0.3 else []
        result = self.attempt("import", 0, ["import", "--replace", "--json", *options,
                                            *(tree.path for tree in several.values())],
                              [(0, name, digest) for name, digest in digests.items()])
        # What it says on the way is done as well.
        for line in result.out.splitlines(True):
            if line.endswith("\n"):
                name = json.loads(line)["name"]
                self.torture.ledgers[0].must(name, digests[name])
                self.torture.count("acknowledged")

    def do_nar_import(self):
        tree, path = self.some_tree(), self.folder / "nar"
        wanted = trees.write_nar(tree, path)
        name = f"{tree.name}-nar"
        if self.rng.random() < 0.2:
            self.attempt("nar import, wrong", 0, [
                "nar", "import", "--name", f"{name}-wrong", "--hash", f"sha256:{'0' * 64}", path],
                [], fails=[4])
            return
        self.attempt("nar import", 0, ["nar", "import", "--replace", "--name", name, "--hash",
                                       wanted, path],
                     [(0, name, self.torture.forest.digest(tree.path))])

    def do_nix_import(self):
        tree = self.some_tree()
        digest = self.torture.forest.digest(tree.path)
        self.attempt("nix import", 0, ["nix", "import", tree.path],
                     [(0, self.torture.forest.store_path(tree.path), digest)])

    def do_remove(self):
        number = self.rng.randrange(2)
        names = self.held(number)
        if not names:
            return
        name = self.rng.choice(names)
        verb = ["nix", "remove"] if name.startswith("/") else ["roots", "remove"]
        self.attempt(" ".join(verb), number, [*verb, name], [(number, name, None)])

    def copied(self, source, target):
        """Some names, and what copying them changes."""
        names = self.held(source)
        names = self.rng.sample(names, min(len(names), self.rng.choice((1, 2, 5))))
        return names, [(target, name, self.torture.ledgers[source].has(name)) for name in names]

    def do_push(self):
        names, changes = self.copied(0, 1)
        if names:
            self.attempt("push", 0, ["push", "--replace", "--to", self.torture.stores[1].path,
                                     *names], changes)

    def do_pull(self):
        names, changes = self.copied(1, 0)
        if names:
            self.attempt("pull", 0, ["pull", "--replace", "--from", self.torture.stores[1].path,
                                     *names], changes)

    def do_push_to_daemon(self):
        """The daemon dies, or who pushes, or both."""
        names, changes = self.copied(0, 1)
        if not names:
            return
        path = self.folder / "socket"
        path.unlink(missing_ok=True)
        plan = self.torture.habits.plan(self.rng, "daemon")
        daemon = Victim([harness.CAIRN, "--store", self.torture.stores[1].path, "daemon",
                         f"--listen=unix:{path}"], plan, self.counter(1),
                        write=self.rng.choice(WRITES))
        begin = time.monotonic()
        try:
            harness.wait_until(lambda: daemon.process.poll() is not None or listens(path),
                               "the daemon listens")
            result = self.attempt(
                "push to daemon", 0,
                ["push", "--replace", "--to", f"grpc+unix://{path}", *names], changes,
                fails=range(1, 10), plan=(NEVER, 0) if self.rng.random() < 0.5 else None)
        finally:
            with contextlib.suppress(ProcessLookupError):
                daemon.process.terminate()
            served = daemon.wait()
        self.torture.ran("daemon", daemon, served, time.monotonic() - begin)
        if served.code != 0 and not was_killed(served):
            raise Fault(f"{daemon}: exit {served.code}: {served.err}")
        if result.code > 0 and not was_killed(served):
            raise Fault(f"push: exit {result.code}: {result.err}")

    def do_gc(self):
        number = self.rng.randrange(2)
        # 5: another one is at work.
        self.attempt("gc", number, ["gc"], [], fails=[5])

    def do_repair(self):
        number = self.rng.randrange(2)
        self.attempt("fsck --repair", number,
                     ["fsck", "--repair", "--from", self.torture.stores[1 - number].path], [])

    def deeds(self):
        """Each as often as it is here."""
        found = [*3 * [self.do_import], self.do_nar_import, self.do_nix_import, self.do_remove,
                 *2 * [self.do_push], self.do_pull, *2 * [self.do_push_to_daemon]]
        if self.torture.has_command("gc"):
            found += 3 * [self.do_gc]
        return [*found, *2 * [self.do_repair]]

    def work(self):
        """Until somebody says that it is over, or something is wrong."""
        deeds = self.deeds()
        try:
            while not self.torture.over.is_set():
                before = self.torture.kills
                self.rng.choice(deeds)()
                if self.torture.kills != before:
                    self.check()
            self.check()
        except Exception as error:  # whatever it is, it is a fault
            self.torture.fail(f"{type(error).__name__}: {error}")


def listens(path):
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        return True
    return False


def run_together(slots):
    threads = [threading.Thread(target=slot.work) for slot in slots]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
