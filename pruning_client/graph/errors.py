"""Errors of exporting a model and of removing its channels."""

from pruning_client.errors import ModelError


class ExportError(ModelError):
    """The model cannot be traced or exported; the message names the module and the cause."""


class SurgeryError(ModelError):
    """Channels cannot be removed from this model, or a checkpoint does not fit it."""


class DeployError(ModelError):
    """The deploy hook fails, its network computes something else, or its widths do not follow."""


class WideningError(ModelError):
    """Channels cannot be added to this model."""
