"""The errors that people meet: each says what was expected, what came, where, and what to do."""

__all__ = ["BackendError", "DataError", "RunError", "SettingsError", "ShapeError", "TrainingError", "WavefrontError"]


class WavefrontError(Exception):
    """The root of every error that Wavefront raises on purpose."""


class ShapeError(WavefrontError, ValueError, RuntimeError):
    """A tensor of the wrong shape, dtype or device. (Both a ValueError and a RuntimeError: torch raises either.)"""


class BackendError(WavefrontError, RuntimeError):
    """A backend asked for by name cannot run this cell; the message says which operation is the reason."""


class DataError(WavefrontError, ValueError):
    """A file from outside is not what it should be; the message has file, line, what was expected and what came."""


class SettingsError(WavefrontError, ValueError):
    """A setting that does not exist or cannot be; a mistyped key gets the nearest one that does exist."""


class RunError(WavefrontError, RuntimeError):
    """A run folder that is missing, damaged, already there, or of something else."""


class TrainingError(WavefrontError, RuntimeError):
    """Training cannot go on: the loss is not finite or has exploded, or memory ran out; the message names the batch and the remedies."""
