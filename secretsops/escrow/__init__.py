"""Backup of the sealing keys: bundles for offline recipients, an index, and the proof that they open."""
