"""What an input may say without meaning it."""

from __future__ import annotations

from parmlip.config import Study
from parmlip.config_schema import show


def charge_warning(study: Study) -> str | None:
    """A line on a charge that leaves tight binding, whose levels hold two electrons, with one filled in part; or None.

    A fixed Fermi level decides the number of electrons itself. All built-in atoms bring an even number.
    """
    if "reference" not in study.tables or study.reference.kind != "tight_binding":
        return None
    charge = study.reference.charge
    if study.reference.fermi_level is not None or charge % 2.0 == 0.0:
        return None
    number = "an odd" if charge % 1.0 == 0.0 else "no whole"
    return (
        f"[reference] charge = {show(charge)}: leaves {number} number of electrons; there is no spin here, "
        "levels hold two, so the highest is filled in part"
    )
