"""What a run leaves: its samples, and when and how they were taken. A later run of some of the
scenarios takes the place of what was measured of these before."""

import json
import time

FORMAT = 2


class ResultError(Exception):
    pass


def new(bench, present, machine, version):
    return {
        "format": FORMAT,
        "machine": machine,
        "tree": bench.manifest,
        "contenders": {one.name: one.about for one in present},
        "ours": [one.name for one in present if one.ours],
        "cold": bench.cold,
        "unmounted": [one.name for one in present if one.fill and not one.can_be_seen
                      and one.needs_fuse],
        "samples": bench.samples, "failed": bench.failed,
        "runs": [{"when": time.strftime("%Y-%m-%d %H:%M %Z"), "version": version,
                  "scenarios": [], "rounds_wanted": 0, "rounds": 0, "checked": False,
                  "busy": [], "seconds": 0, "seconds_of": {}}],
    }


def read(path):
    try:
        result = json.loads(path.read_text())
    except ValueError as error:
        raise ResultError(f"{path}: {error}") from None
    if result.get("format") != FORMAT:
        raise ResultError(f"{path}: the result of another version of bench/run")
    return result


def write(path, result):
    path.write_text(json.dumps(result, indent=1) + "\n")


def merge(before, now):
    """An earlier result with what was measured now in its place."""
    if before["tree"]["bytes"] != now["tree"]["bytes"]:
        raise ResultError("the earlier result is that of another tree")
    again = set(now["runs"][-1]["scenarios"])
    runs = [{**run, "scenarios": [name for name in run["scenarios"] if name not in again]}
            for run in before["runs"]]
    return {
        **now,
        "contenders": {**before["contenders"], **now["contenders"]},
        "ours": list(dict.fromkeys(before["ours"] + now["ours"])),
        "samples": {**before["samples"], **now["samples"]},
        "failed": {**before["failed"], **now["failed"]},
        "runs": [run for run in runs if run["scenarios"]] + now["runs"],
    }
