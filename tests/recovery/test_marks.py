"""What a manifest's annotations ask of a sync, as the peer reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery.marks import DeletePolicy, Phase, delete_policies, is_hook, is_skipped, phases_of, unknown_hooks, wave_of
from secretsops.manifest import Manifest


def marked(**annotations: str) -> Manifest:
    names = {name.replace("__", "/").replace("_", "-"): value for name, value in annotations.items()}
    full = {name if "/" in name else f"argocd.argoproj.io/{name}": value for name, value in names.items()}
    return Manifest({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "annotations": full}})


@pytest.mark.parametrize(
    ("text", "wave"), [("3", 3), ("-5", -5), ("+2", 2), ("1.5", 0), ("", 0), (" 1", 0), ("1" * 19, 0), ("٣", 0)]
)
def test_waves_are_whole_numbers_or_nothing(text: str, wave: int) -> None:
    """What Go's strconv.Atoi refuses counts as 0, also digits of other scripts."""
    assert wave_of(marked(sync_wave=text)) == wave


def test_helm_s_weight_stands_in_for_a_wave() -> None:
    """Only where no valid wave is said."""
    assert wave_of(marked(helm_sh="x", **{"helm.sh__hook_weight": "4"})) == 4
    assert wave_of(marked(sync_wave="1", **{"helm.sh__hook_weight": "4"})) == 1
    assert wave_of(marked(sync_wave="x", **{"helm.sh__hook_weight": "4"})) == 4


@pytest.mark.parametrize(
    ("annotations", "phases"),
    [
        ({}, (Phase.SYNC,)),
        ({"hook": "PreSync"}, (Phase.PRE_SYNC,)),
        ({"hook": "PostSync, PreSync"}, (Phase.PRE_SYNC, Phase.POST_SYNC)),
        ({"hook": "Skip"}, ()),
        ({"hook": "PreDelete"}, ()),
        ({"helm.sh__hook": "pre-install,pre-upgrade"}, (Phase.PRE_SYNC,)),
        ({"helm.sh__hook": "post-install"}, (Phase.POST_SYNC,)),
        ({"helm.sh__hook": "crd-install"}, (Phase.SYNC,)),
        ({"helm.sh__hook": "test"}, ()),
        ({"hook": "Sync", "helm.sh__hook": "pre-install"}, (Phase.SYNC,)),
    ],
)
def test_phases(annotations: dict[str, str], phases: tuple[Phase, ...]) -> None:
    """Argo's own annotation wins over Helm's; phases come in their order, not in the text's."""
    assert phases_of(marked(**annotations)) == phases
    assert is_hook(marked(**annotations)) == (
        annotations != {} and not is_skipped(marked(**annotations)) and "crd-install" not in annotations.values()
    )


def test_a_misspelt_hook_is_named() -> None:
    """The peer would never apply it and say nothing."""
    assert unknown_hooks(marked(hook="PreSynk,Sync")) == ("PreSynk",)


@given(st.lists(st.sampled_from([*DeletePolicy, "Nonsense"]), max_size=4))
def test_delete_policies_default_to_before_creation(words: list[str]) -> None:
    """Valid words count, invalid ones do not, none at all means BeforeHookCreation."""
    valid = {DeletePolicy(word) for word in words if word != "Nonsense"}
    assert delete_policies(marked(hook_delete_policy=",".join(words))) == (valid or {DeletePolicy.BEFORE})
