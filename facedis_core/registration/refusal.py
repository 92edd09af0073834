"""Refusal: whether a fit is a face in the right pose, by limits set on scans of known faces."""

from typing import TYPE_CHECKING, Final

import numpy as np

from facedis_core.errors import ErrorCode, InputError
from facedis_core.registration.prior import Limits

if TYPE_CHECKING:
    from facedis_core.registration.fit import Fit

# A fit that leaves more, face to scan or scan to face, or lies farther from the training faces, is
# compared with those of other starts, and all are continued.
DOUBTFUL_MM: Final = 0.36
DOUBTFUL_SCAN_MM: Final = 0.42
DOUBTFUL_DISTANCE: Final = 1.2


def is_doubtful(fit: "Fit") -> bool:
    """Whether a fit leaves more of the scan than most do, or is farther from all faces."""
    return (
        fit.excess_mm > DOUBTFUL_MM
        or fit.scan_excess_mm > DOUBTFUL_SCAN_MM
        or fit.prior_distance > DOUBTFUL_DISTANCE
    )


def refusal(fit: "Fit", margin_mm: float, limits: Limits) -> InputError | None:
    """The error of a fit that is no face, or in a doubtful pose; None where it is one."""
    if fit.coverage < limits.coverage:
        return InputError(
            f"only {fit.coverage:.0%} of the face is there, expected {limits.coverage:.0%}; check "
            "what the scan shows",
            ErrorCode.NO_FACE,
        )
    is_likely = fit.prior_distance < limits.likely_distance
    more = limits.likely_mm if is_likely else 0.0
    of_scan = limits.scan_residual_mm + more
    if is_likely and fit.coverage >= limits.well_covered:
        of_scan = max(of_scan, limits.hidden_mm)
    for distance, excess, limit in (
        (fit.residual_mm, fit.excess_mm, limits.residual_mm + more),
        (fit.scan_residual_mm, fit.scan_excess_mm, of_scan),
    ):
        if excess > limit:
            allowed = np.sqrt(limit**2 + distance**2 - excess**2)
            return InputError(
                f"the best fit lies {distance:.2f} mm from it, expected at most {allowed:.2f}; "
                "check what the scan shows and --units",
                ErrorCode.NO_FACE,
            )
    if fit.prior_distance > limits.prior_distance:
        return InputError(
            f"the best fit is {fit.prior_distance:.2f} standard deviations from the faces known, "
            f"expected at most {limits.prior_distance:g}; check what the scan shows",
            ErrorCode.FAR_FACE,
        )
    return ambiguity(margin_mm, limits)


def doubt(fit: "Fit", limits: Limits) -> str:
    """What is to be told of a fit that is not refused; "" where nothing is."""
    if fit.scan_excess_mm <= limits.scan_residual_mm + limits.likely_mm:
        return ""
    return (
        f"the scan near the face lies {fit.scan_residual_mm:.2f} mm from it; hair or a hand may "
        "cover it, or its expression is wrong"
    )


def ambiguity(margin_mm: float, limits: Limits) -> InputError | None:
    """The error of a scan whose second pose is hardly worse than the first; None otherwise."""
    if margin_mm >= limits.margin_mm:
        return None
    return InputError(
        f"two poses fit alike, the second {margin_mm:.2f} mm worse, expected at least "
        f"{limits.margin_mm:g}; check that the scan shows one face",
        ErrorCode.POSE_AMBIGUOUS,
    )
