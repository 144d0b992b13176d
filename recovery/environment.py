"""The build environment: `$ARGOCD_APP_NAME` and its kin in an application's own fields. Pure.

Rules: argo-cd v3.6 `util/argo` (`BuildEnv`) over Go's `os.Expand`: an unknown name is empty, `$$` is one dollar.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from recovery.app import App, Source

_NAMED = re.compile(r"\$(?:(\$)|\{([^}]*)\}|([A-Za-z_0-9]+|[*#@!?-]))")


def build_environment(app: App, source: Source, revision: str, project: str = "default") -> dict[str, str]:
    """Give the variables that the peer sets for one source of an application at a commit."""
    return {
        "ARGOCD_APP_NAME": app.tracking_name,
        "ARGOCD_APP_NAMESPACE": app.destination,
        "ARGOCD_APP_PROJECT_NAME": project,
        "ARGOCD_APP_REVISION": revision,
        "ARGOCD_APP_REVISION_SHORT": revision[:7],
        "ARGOCD_APP_REVISION_SHORT_8": revision[:8],
        "ARGOCD_APP_SOURCE_REPO_URL": source.url,
        "ARGOCD_APP_SOURCE_PATH": source.path,
        "ARGOCD_APP_SOURCE_TARGET_REVISION": source.revision,
    }


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """Give the text with `$NAME` and `${NAME}` replaced."""
    return _NAMED.sub(lambda found: "$" if found[1] else variables.get(found[2] or found[3] or "", ""), text)
