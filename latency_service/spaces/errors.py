"""Errors of search spaces and of the widths of architectures."""


class SpaceError(ValueError):
    """The search space or its weights are invalid; the message says why."""


class WidthsError(SpaceError):
    """The widths do not fit the space's groups."""
