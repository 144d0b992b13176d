"""`make bench`: print what things cost on this machine. It never judges; wall time is the machine's, CPU is ours.

`make bench ARGS='cluster estate external restart sandbox'` runs the longer ones instead.
"""

from __future__ import annotations

import sys

from tests.bench import cluster, controller, embedded, estate, external, restart, sandbox, sealing, templates, verify

BENCHES = {
    "controller": controller.main,
    "cluster": cluster.main,
    "embedded": embedded.main,
    "estate": estate.main,
    "external": external.main,
    "restart": restart.main,
    "sandbox": sandbox.main,
    "sealing": sealing.main,
    "templates": templates.main,
    "verify": verify.main,
}

for name in [word for word in sys.argv[1:] if not word.isdigit()] or ["controller"]:
    if name not in BENCHES:
        sys.exit(f"there is no bench '{name}'; choose from {', '.join(BENCHES)}")
    BENCHES[name]()
