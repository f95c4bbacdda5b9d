"""Why a publication is refused: one error with a reason that programs can count and answer by. Pure."""

from __future__ import annotations

from enum import StrEnum

from samara.schemas.errors import TrustError


class Reason(StrEnum):
    """What stood in the way. The publisher's tools and the registry's metrics use these words."""

    UNPROVEN = "unproven"  # signatures, thresholds, digests, identities that don't hold
    MALFORMED = "malformed"
    STALE = "stale"  # older than what is here
    EXPIRED = "expired"
    EQUIVOCATION = "equivocation"
    UNLISTED = "unlisted"  # a release that the catalog doesn't list
    NAME_TAKEN = "name-taken"
    NAME_REFUSED = "name-refused"
    NOT_LISTED = "not-listed"  # the operator lists who may publish
    QUOTA = "quota"
    MIRROR = "mirror"
    CONFLICT = "conflict"  # somebody was quicker
    READ_ONLY = "read-only"
    BARRED = "barred"  # the operator took this publisher down


class PublicationRefusedError(TrustError):
    """Nothing of the publication was taken, but for evidence of an equivocation."""

    def __init__(
        self,
        reason: Reason,
        what: str,
        *,
        expected: object = None,
        actual: object = None,
        next_step: str | None = None,
    ) -> None:
        super().__init__(what, expected=expected, actual=actual, next_step=next_step)
        self.reason = reason

    def as_dict(self) -> dict[str, object]:
        """With the reason."""
        return {**super().as_dict(), "reason": self.reason.value}
