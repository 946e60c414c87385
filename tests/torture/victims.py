"""Processes that are killed: after a while, or right before some call that changes a file."""
import os
import pathlib
import signal
import subprocess
import threading

import harness

SHIM = harness.HELPERS / "libkill_shim.so"
NEVER, DELAY, CALL = "never", "delay", "call"
# What is typical before anything is known.
FIRST_SECONDS, FIRST_CALLS = 0.2, 30
BEYOND = 1.1


class Habits:
    """How long each kind of command takes, and how many calls it makes."""

    def __init__(self):
        self.lock = threading.Lock()
        self.seconds = {}
        self.calls = {}

    def learn(self, kind, seconds, calls):
        with self.lock:
            for table, value in ((self.seconds, seconds), (self.calls, calls)):
                table[kind] = value if kind not in table else 0.7 * table[kind] + 0.3 * value

    def plan(self, rng, kind):
        """(how, when) a command of this kind is to die."""
        roll = rng.random()
        with self.lock:
            seconds = self.seconds.get(kind, FIRST_SECONDS)
            calls = self.calls.get(kind, FIRST_CALLS)
        if roll < 0.15:
            return NEVER, 0
        if roll < 0.5:
            return DELAY, rng.uniform(0, seconds * BEYOND)
        return CALL, rng.randint(1, max(1, int(calls * BEYOND)))


class Victim:
    """A process with a plan for its end."""

    def __init__(self, args, plan, counter, write=None):
        """write: how much of a write by which it ends is done, "half" or "whole"."""
        self.args = [os.fspath(a) for a in args]
        self.how, self.when = plan
        self.counter = pathlib.Path(counter)
        self.counter.write_bytes(bytes(8))
        env = {"CAIRN_KILL_COUNTER": os.fspath(self.counter)}
        # Sanitizers want to be loaded first.
        if not {"ASAN_OPTIONS", "TSAN_OPTIONS"} & set(os.environ):
            env["LD_PRELOAD"] = os.fspath(SHIM)
        if self.how == CALL:
            env["CAIRN_KILL_AT"] = str(self.when)
            env |= {"CAIRN_KILL_WRITE": write} if write else {}
        self.process = harness.start(self.args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                     stderr=subprocess.PIPE, env=harness.environment(env))
        self.timer = None
        if self.how == DELAY:
            self.timer = threading.Timer(self.when, self.process.kill)
            self.timer.start()

    def wait(self):
        """Its end, as a harness.Result; code is -9 when it was killed."""
        try:
            out, err = self.process.communicate(timeout=harness.TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            out, err = self.process.communicate()
            raise AssertionError(f"hangs: {self.args}: {err}") from None
        finally:
            harness.live_processes.discard(self.process)
            if self.timer:
                self.timer.cancel()
        return harness.Result(self.args, self.process.returncode, out, err)

    def calls(self):
        return int.from_bytes(self.counter.read_bytes()[:8], "little")

    def __str__(self):
        when = f"{self.when:.4f} s" if self.how == DELAY else self.when
        return f"{' '.join(self.args)} [{self.how} {when}]"


def was_killed(result):
    return result.code == -signal.SIGKILL
