"""What is measured. A scenario is one round of something for all contenders in turn."""

from harness.scenarios import archives, ingest, mounted, proof, scale, work
from harness.scenarios.common import scenario_mounted

SCENARIOS = {
    "import": ingest.scenario_import,
    "export": ingest.scenario_export,
    "walk": scenario_mounted(mounted.walk),
    "names": scenario_mounted(mounted.names),
    "small": scenario_mounted(mounted.small),
    "read": scenario_mounted(mounted.read),
    "parallel": scenario_mounted(mounted.parallel),
    "large": scenario_mounted(mounted.large),
    "build": scenario_mounted(work.build),
    "git": scenario_mounted(work.git),
    "exec": scenario_mounted(work.execute),
    "scale": scale.scenario_scale,
    "nar": archives.scenario_nar,
}

# Those that have nothing to do with the tree.
APART = {"scale", "nar"}


def prove(bench, contender, names):
    """A contender that gives back something else than was put in has no figures to show."""
    if contender.fill and set(names) - APART - set(work.SCENARIOS):
        proof.prove_tree(bench, contender)
    if contender.can_be_seen and set(names) & set(work.SCENARIOS):
        work.prove(bench, contender)
    if "nar" in names:
        archives.prove(bench, contender)
