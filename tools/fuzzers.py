"""Runs programs of libFuzzer: what tools/check and tools/fuzz have in common."""
import contextlib
import dataclasses
import os
import pathlib
import re
import signal
import subprocess
import threading
import time

PROJECT = pathlib.Path(__file__).resolve().parent.parent
CORPUS = PROJECT / "tests/fuzz/corpus"
DICTIONARIES = PROJECT / "tests/fuzz/dictionaries"
BUILD_OPTIONS = ["--buildtype=debugoptimized", "-Dfuzz=true", "-Db_lundef=false"]
INTERRUPTED = 72  # the exit code of a fuzzer that was asked to stop
# What a fuzzer that hangs itself, not one of its inputs, gets beyond its time.
PATIENCE = 180
# Of a stack trace: where it was in code of ours.
FRAME = re.compile(r"#\d+ 0x[0-9a-f]+ in (\w+) .*/((?:src|tests)/\S+?:\d+)")


def find(build):
    """{name: program} of the fuzzers in a build directory."""
    return {path.name.removeprefix("fuzz_"): path
            for path in sorted((build / "tests/fuzz").glob("fuzz_*"))
            if path.is_file() and os.access(path, os.X_OK)}


@dataclasses.dataclass
class Run:
    """What one run of a fuzzer came to."""
    name: str
    code: int | None  # None: it hung, and was killed
    output: str
    seconds: float  # that it took
    cpu_seconds: float

    def number(self, pattern):
        found = re.findall(pattern, self.output)
        return int(found[-1]) if found else 0

    @property
    def runs(self):
        return self.number(r"stat::number_of_executed_units:\s+(\d+)")

    @property
    def new_inputs(self):
        return self.number(r"stat::new_units_added:\s+(\d+)")

    @property
    def edges(self):
        return self.number(r" cov: (\d+) ")

    @property
    def features(self):
        return self.number(r" ft: (\d+) ")

    @property
    def failed(self):
        return self.code not in (0, INTERRUPTED)

    @property
    def reproducer(self):
        """Where it wrote the input that fails, or None."""
        found = re.search(r"Test unit written to (\S+)", self.output)
        return found[1] if found else None

    def explain(self):
        """What failed, and where: equal for the same fault."""
        if self.code is None:
            return "the fuzzer hangs"
        promise = re.search(r"^ERROR: (broken promise: .*) at .*/(tests/\S+:\d+)$", self.output,
                            re.M)
        if promise:
            return f"{promise[1]} at {promise[2]}"
        what = re.search(r"(?:SUMMARY|ERROR): (\w+: [\w-]+|\w+Sanitizer: \d+ byte)|"
                         r"(runtime error: .*)", self.output)
        what = (what[1] or what[2]) if what else f"exit code {self.code}"
        where = FRAME.search(self.output)
        return f"{what} in {where[1]} at {where[2]}" if where else what


def send(process, number):
    """Not Popen.send_signal, which would wait for the process in the wrong thread."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


class Stop:
    """Ends all runs early, now and from now on, when somebody asks."""

    def __init__(self):
        self.lock = threading.Lock()  # guards the rest
        self.processes = set()
        self.asked = False

    def add(self, process):
        with self.lock:
            self.processes.add(process)
            if self.asked:
                send(process, signal.SIGINT)

    def remove(self, process):
        with self.lock:
            self.processes.discard(process)

    def ask(self):
        with self.lock:
            self.asked = True
            for process in self.processes:
                send(process, signal.SIGINT)


def wait(process, timeout):
    """(exit code, its rusage); the code is None when it had to be killed."""
    watch = threading.Timer(timeout, send, (process, signal.SIGKILL))
    watch.start()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    killed = process.returncode == -signal.SIGKILL and not watch.is_alive()
    watch.cancel()
    return None if killed else process.returncode, usage


def start(name, program, arguments, log, timeout, env=None, stop=None):
    """Runs it to its end; its output stays in the file log."""
    begin = time.monotonic()
    with open(log, "wb") as out:
        process = subprocess.Popen([str(a) for a in (program, *arguments)], cwd=PROJECT,
                                   env={**os.environ, **(env or {})}, start_new_session=True,
                                   stdin=subprocess.DEVNULL, stdout=out,
                                   stderr=subprocess.STDOUT)
    if stop:
        stop.add(process)
    try:
        code, usage = wait(process, timeout)
    except BaseException:
        send(process, signal.SIGKILL)
        raise
    finally:
        if stop:
            stop.remove(process)
    return Run(name, code, pathlib.Path(log).read_text("utf-8", "replace"),
               time.monotonic() - begin, usage.ru_utime + usage.ru_stime)


def fuzz(name, program, folders, findings, seconds, env=None, stop=None):
    """
    Fuzzes for some seconds. New inputs go to the first of the folders, the others are only read,
    as is the corpus of the project; what fails goes to findings.
    """
    folders = [*folders, CORPUS / name]
    for folder in (folders[0], findings):
        folder.mkdir(parents=True, exist_ok=True)
    dictionary = DICTIONARIES / name
    words = [f"-dict={dictionary}"] if dictionary.exists() else []
    return start(name, program, [
        f"-max_total_time={max(1, round(seconds))}", "-print_final_stats=1", "-timeout=20",
        "-rss_limit_mb=2048", f"-artifact_prefix={findings}/", *words,
        *(folder for folder in folders if folder.is_dir())],
        findings / "log", seconds + PATIENCE, env, stop)


def merge(name, program, into, sources, log, few=False):
    """
    Adds to a folder what others reach beyond it, with the smallest inputs that do. Few: which
    code is reached counts, not how often, or there would be thousands of inputs.
    """
    into.mkdir(parents=True, exist_ok=True)
    how = ["-set_cover_merge=1", "-use_counters=0"] if few else ["-merge=1"]
    # Inputs that fail are left out, and written once more.
    how.append(f"-artifact_prefix={log.parent}/")
    return start(name, program, [*how, into, *(f for f in sources if f.is_dir())], log, 1800)
