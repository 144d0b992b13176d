"""Sealed copies of last known good Secrets: write them to every sink, prove them, open them. The spine of `kept.py`.

The sinks, signers, claims and trust are those of the sealing keys' escrow; the recipients are others. Never here: which
Secrets are kept and who may have them back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from secretsops.errors import BrokenEscrow, SecretsOpsError
from secretsops.escrow.backup import (
    Opening,
    cluster_of,
    refuse_fenced,
    refuse_incomplete,
    refuse_signer,
    share_trust,
)
from secretsops.escrow.canonical import SIZE_LIMIT, digest
from secretsops.escrow.kept import (
    Bundle,
    Copy,
    Kept,
    advanced,
    bundle_name,
    entry_names,
    pack,
    read_kept,
    readers_mark,
    unpack,
)
from secretsops.escrow.survey import Survey
from secretsops.escrow.trust import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """For whom, by which key of names and how many versions of each; `incarnation` writes at `now` (RFC 3339)."""

    recipients: Sequence[str]
    names: str
    versions: int
    incarnation: str
    now: str


def newest(survey: Survey) -> Kept | None:
    """Give the newest index of copies that the sinks agree on, None where there is none.

    Raises:
        BrokenEscrow: two sinks contradict each other, or nobody signed it who may.
    """
    held = {copy.place.name: entry_names(copy.names) for copy in survey.sound}
    places = {copy.place.name: copy.place for copy in survey.sound}
    ahead = max(held, key=lambda place: (held[place][-1:], place), default="")
    if not ahead or not held[ahead]:
        return None
    escrow, name = survey.escrow, held[ahead][-1]
    text = escrow.read(places[ahead], name)
    for place, names in held.items():
        if names and escrow.read(places[place], names[-1]) != (
            text if names[-1] == name else escrow.read(places[ahead], names[-1])
        ):
            raise BrokenEscrow(
                f"{place} and {ahead} hold two {names[-1]} that contradict each other",
                reason="Fork",
                hint="one of them was forged, or two clusters wrote: find out which before anything is restored",
            )
    found = read_kept(name, text)
    _refuse_untrusted(survey, found)
    return found


def _refuse_untrusted(survey: Survey, entry: Kept) -> None:
    if survey.trust is None:
        if entry.signatures:
            raise BrokenEscrow(
                f"{entry.name} is signed; who may sign has to come from outside",
                reason="TrustNeeded",
                hint="give --trust sha256:… from the custody card",
            )
        return
    survey.trust.refuse_older_than(entry.trust_version, entry.trust)
    if not survey.trust.allows(entry.signed_by, Role.BUNDLES):
        raise BrokenEscrow(f"{entry.name} is signed by nobody who may sign bundles now", reason="Untrusted")


def write(survey: Survey, last: Kept | None, copies: Mapping[str, Copy], gone: Mapping[str, str], terms: Terms) -> Kept:
    """Write one more epoch to every sink and read it back: copies by hidden name, and names that have none any more.

    Raises:
        BrokenEscrow: a sink gives back something else, another incarnation has the claim, the signer may not sign.
        WorldFailed: a sink gives no answer; what was written counts for nothing until it does.
    """
    refuse_incomplete(survey)
    refuse_fenced(survey, terms.incarnation)
    refuse_signer(survey, Role.BUNDLES)
    share_trust(survey)
    escrow, epoch = survey.escrow, (last.epoch + 1 if last else 1)
    _level(survey, last)
    cluster, sealed, bundle = cluster_of(survey, terms.incarnation), b"", None
    if copies:
        sealed = escrow.age.encrypt(pack(copies, cluster, epoch), terms.recipients)
        sha256 = digest(sealed)
        bundle = Bundle(
            file=bundle_name(epoch, sha256),
            sha256=sha256,
            size=len(sealed),
            created=terms.now,
            incarnation=terms.incarnation,
            readers=readers_mark(terms.recipients),
        )
    # Names of another key mean nothing any more: everything that lives is sealed anew under this one.
    continued = last if last and last.names == terms.names else None
    bundles, listed, tombstones = advanced(continued, epoch, bundle, list(copies), gone, terms.versions)
    trust = survey.trust if escrow.signers else None
    entry = Kept(
        epoch=epoch,
        previous=last.digest if last else "",
        cluster=cluster,
        incarnation=terms.incarnation,
        created=terms.now,
        names=terms.names,
        recipients=sorted(terms.recipients),
        claim=len(survey.claims),
        trust=trust.newest.digest if trust else "",
        trust_version=trust.newest.version if trust else 0,
        bundles=bundles,
        copies=listed,
        tombstones=tombstones,
    ).signed_with(escrow.signers)
    text = entry.text()
    if len(text) > SIZE_LIMIT:
        raise BrokenEscrow(f"{len(listed)} names do not fit into one index", reason="TooLarge", hint="keep fewer")
    # The bundle everywhere, then the entry that makes it count; of two that race the first place decides.
    if bundle is not None:
        for place in escrow.places:
            place.writer.put(bundle.file, sealed)
    for place in escrow.places:
        place.writer.put(entry.name, text)
    for place in escrow.places:
        if place.reader.get(entry.name) != text or (bundle and place.reader.get(bundle.file) != sealed):
            raise BrokenEscrow(f"{place.name} gives back other copies than were written", reason="NotDurable")
    return entry


def _level(survey: Survey, last: Kept | None) -> None:
    """Give places that lag what the newest index refers to."""
    if last is None:
        return
    wanted = {bundle.file: bundle for bundle in last.bundles.values()}
    source = next(copy for copy in survey.sound if last.name in copy.names)
    for copy in survey.sound:
        if last.name in copy.names:
            continue
        for file in sorted(set(wanted) - copy.names):
            copy.place.writer.put(file, source.place.reader.get(file))
        copy.place.writer.put(last.name, last.text())


def opened(survey: Survey, entry: Kept, opening: Opening, *, back: int = 0) -> list[Copy]:
    """Give every copy that is not under a tombstone: the newest, or the one `back` versions before where there is one.

    Raises:
        BrokenEscrow: no place has a bundle whole, or nothing offered opens it.
    """
    wanted: dict[int, set[str]] = {}
    for name, epochs in entry.copies.items():
        wanted.setdefault(epochs[min(back, len(epochs) - 1)], set()).add(name)
    found = []
    for epoch, names in sorted(wanted.items()):
        content = survey.escrow.age.decrypt(_sealed(survey, entry.bundles[epoch]), opening.identities)
        held = unpack(content, entry.cluster, epoch)
        if names - set(held):
            raise BrokenEscrow(f"the bundle of epoch {epoch} lacks what its index lists", reason="WrongContent")
        found += [held[name] for name in sorted(names)]
    return found


def _sealed(survey: Survey, bundle: Bundle) -> bytes:
    problem: SecretsOpsError | None = None
    for copy in survey.sound:
        try:
            content = copy.place.reader.get(bundle.file)
        except SecretsOpsError as error:
            problem = error
            continue
        if (digest(content), len(content)) == (bundle.sha256, bundle.size):
            return content
        problem = BrokenEscrow(f"{bundle.file} is not what was written", reason="Damaged")
    raise problem or BrokenEscrow(f"no sink has {bundle.file}", reason="Missing")
