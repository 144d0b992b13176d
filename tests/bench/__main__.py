"""`make bench`: print what things cost on this machine. It never judges; wall time is the machine's, CPU is ours.

`make bench ARGS='cluster external restart sandbox'` runs the longer ones instead.
"""

from __future__ import annotations

import sys

from tests.bench import cluster, controller, embedded, external, restart, sandbox, sealing, templates, verify

BENCHES = {
    "controller": controller.main,
    "cluster": cluster.main,
    "embedded": embedded.main,
    "external": external.main,
    "restart": restart.main,
    "sandbox": sandbox.main,
    "sealing": sealing.main,
    "templates": templates.main,
    "verify": verify.main,
}

for name in sys.argv[1:] or ["controller"]:
    if name not in BENCHES:
        sys.exit(f"there is no bench '{name}'; choose from {', '.join(BENCHES)}")
    BENCHES[name]()
