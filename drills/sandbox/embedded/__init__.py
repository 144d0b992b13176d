"""A small Kubernetes API server in memory: the stand-in for a control plane where there is neither Go nor binaries.

    python -m drills.sandbox.embedded FOLDER PORT       (what `embedded_cluster.py` starts)

One process, one thread, an asyncio loop: a request is carried out whole before the next one begins, so there are no
locks. It serves what kubectl, our own code and the demo use, and says what it is in its version string. It is never a
place to run workloads. What it does not do is listed in the sandbox's README.
"""
