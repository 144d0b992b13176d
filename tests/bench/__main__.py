"""`make bench`: print every figure of the README, of this machine and this run. Nothing here gates anything."""

from __future__ import annotations

from tests.bench import cluster, runtime, sandbox


def main() -> None:
    """Print the figures part by part."""
    for name, part in (("runtime", runtime.main), ("cluster door", cluster.main), ("sandbox", sandbox.main)):
        print(f"\n## {name}", flush=True)
        part()


if __name__ == "__main__":
    main()
