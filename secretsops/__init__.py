"""Secrets and disaster recovery for Kubernetes clusters that are run from Git: the core values and pure rules.

This package is the public Python API; `recovery`, `controllers` and `drills` are internal to the application.

    >>> from secretsops import Plaintext
    >>> Plaintext(b"hunter2")
    Plaintext(7 bytes)
"""

from secretsops.errors import SecretsOpsError
from secretsops.manifest import GroupVersionKind, Manifest, ObjectKey
from secretsops.secret import Plaintext, SecretData

__version__ = "0.1.0"

__all__ = ["GroupVersionKind", "Manifest", "ObjectKey", "Plaintext", "SecretData", "SecretsOpsError", "__version__"]
