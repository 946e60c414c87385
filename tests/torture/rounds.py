"""Rounds: commands on the same two stores at the same time, until enough of them were killed; then
everything that the stores have is looked at."""
import re
import threading
import time

import harness

from . import slots, trees
from .ledger import Ledger
from .victims import Habits, Victim, was_killed

SLOTS = 3
KILLS_PER_ROUND = 25
ROUNDS_PER_STORE = 4


class Torture:
    """Two stores, what they must have, and what was seen."""

    def __init__(self, folder, seed, kills):
        self.folder = folder
        self.seed = seed
        self.wanted = kills
        self.round = 0
        self.habits = Habits()
        self.forest = trees.Forest(harness.cairn)
        self.lock = threading.Lock()  # guards what follows
        self.kills = 0
        self.round_end = 0
        self.counts = {}
        self.faults = []
        self.over = threading.Event()
        self.commands = re.findall(r"^  ([a-z]+) ", harness.cairn("--help").out, re.M)
        self.new_stores()

    def new_stores(self):
        self.stores = [harness.Store(self.folder / f"{name}{self.round}") for name in "ab"]
        self.ledgers = [Ledger(), Ledger()]
        for store in self.stores:
            # Made by a command that is not killed: what is half made is no store yet.
            path = harness.write(self.folder / "first", "first\n")
            store.add(path, "first")

    def has_command(self, name):
        return name in self.commands

    # ---- For the slots ----

    def count(self, what):
        with self.lock:
            self.counts[what] = self.counts.get(what, 0) + 1

    def ran(self, kind, victim, result, seconds):
        if not was_killed(result):
            self.habits.learn(kind, seconds, victim.calls())
            self.count(f"{kind}: ended")
            return
        self.count(f"{kind}: killed")
        with self.lock:
            self.kills += 1
            if self.kills >= self.round_end:
                self.over.set()

    def fail(self, text):
        with self.lock:
            self.faults.append(text)
        self.over.set()

    def names(self, store):
        """{name: digest} of trees and store paths; the store opens."""
        found = {name: value["digest"] for name, value in store.roots().items()}
        paths = store.cairn("nix", "path-info", "--all", "--json").json()
        return found | {value["path"]: value["digest"] for value in paths}

    # ---- When all is quiet ----

    def check_content(self, store, ledger):
        """Every byte of everything that has a name."""
        found = self.names(store)
        for name in {*found, *ledger.names()} - {"first"}:
            fault = ledger.settle(name, found.get(name))
            assert not fault, f"{store.path}: {fault}"
        for name, digest in found.items():
            out = self.folder / "out"
            store.cairn("export", name, out)
            if name != "first":
                assert trees.fingerprint(out) == self.forest.content[digest], \
                    f"{store.path}: {name} has other content"
            trees.remove(out) if out.is_dir() else out.unlink()
            self.count("trees compared")

    def check_folder(self, store):
        """What was left half done goes with the next large file."""
        path = harness.write(self.folder / "large", harness.pattern(300_000, self.kills + 1))
        store.add(path, "first", "--replace")
        left = store.cairn("stats", "--json").json()[0]
        assert left["tmp_files"] == 0, f"{store.path}: {left['tmp_files']} files in tmp"
        assert left["missing"] == 0, f"{store.path}: {left['missing']} objects are missing"

    def check_whole(self, store):
        store.cairn("fsck", "--read-data", "--quiet")
        self.count("stores read through")

    def reindex(self, store):
        """Killed on its way, the old index is there or the new one."""
        plan = self.habits.plan(slots.random.Random(f"{self.seed} {self.round}"), "reindex")
        victim = Victim([harness.CAIRN, "--store", store.path, "reindex"], plan,
                        self.folder / "calls")
        begin = time.monotonic()
        result = victim.wait()
        self.ran("reindex", victim, result, time.monotonic() - begin)
        assert result.code in (0, -9), f"{victim}: {result}"
        if result.code:
            self.names(store)
            store.cairn("reindex")

    def check_all(self):
        for store, ledger in zip(self.stores, self.ledgers):
            self.check_whole(store)
            self.check_content(store, ledger)
            self.check_folder(store)
            self.reindex(store)
            self.check_whole(store)
            self.check_content(store, ledger)

    # ---- All of it ----

    def next_round(self):
        if self.round and self.round % ROUNDS_PER_STORE == 0:
            for store in self.stores:
                harness.remove_tree(store.path)
            self.new_stores()
        self.round += 1
        self.over.clear()
        self.round_end = min(self.wanted, self.kills + KILLS_PER_ROUND)
        made = [slots.Slot(self, number) for number in range(SLOTS)]
        slots.run_together(made)
        if not self.faults:
            try:
                self.check_all()
            except Exception as error:  # whatever it is, it is a fault
                self.fail(f"{type(error).__name__}: {error}")
        for slot in made:
            trees.remove(slot.folder)

    def work(self, say):
        begin = time.monotonic()
        while self.kills < self.wanted and not self.faults:
            self.next_round()
            say(f"{self.kills} killed in {self.round} rounds")
        return time.monotonic() - begin
