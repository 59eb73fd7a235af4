"""What can be wrong with a search space and with the widths of an architecture."""


class SpaceError(ValueError):
    """The search space or its weights are not valid; the message says what is and what would be."""


class WidthsError(SpaceError):
    """The widths do not fit the space's groups."""
