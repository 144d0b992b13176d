"""A disposable world on loopback: cluster, Vault, AWS, Git. Every process dies with its parent."""
