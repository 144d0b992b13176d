"""All that a scenario may say: the tables of every family, put together. Never here: an entry of its own."""

from __future__ import annotations

from drills.acts import clusters as cluster_acts
from drills.acts import escrows, estates, recovery, stores
from drills.checks import clusters as cluster_checks
from drills.checks import outside as outside_checks
from drills.faults import clusters, outside, trust
from drills.kinds import Vocabulary

VOCABULARY = Vocabulary(
    acts={**cluster_acts.TABLE, **estates.TABLE, **escrows.TABLE, **recovery.TABLE, **stores.TABLE, **outside.ACTS},
    faults={**clusters.TABLE, **outside.TABLE, **trust.TABLE, **stores.FAULTS},
    checks={**cluster_checks.TABLE, **outside_checks.TABLE},
)
