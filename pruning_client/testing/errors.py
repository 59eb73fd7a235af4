"""Failure of a conformance check."""


class ConformanceError(AssertionError):
    """A method does something else than the interface of methods says."""


def require(holds: bool, fault: str) -> None:
    """Check a property.

    Args:
        fault: What is wrong when it does not hold.

    Raises:
        ConformanceError: It does not hold.
    """
    if not holds:
        raise ConformanceError(fault)
