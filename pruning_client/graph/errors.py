"""What can go wrong between a torch model and its graph."""


class ExportError(ValueError):
    """The model cannot be traced or exported; the message names the module and the cause."""
