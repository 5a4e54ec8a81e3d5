"""Errors a user can act on. Each message names the thing, the value and the way out."""


class MuseTalkError(Exception):
    """Base of every error this package raises on purpose. ``exit_code`` is what the command line ends with."""

    exit_code = 1


class InputError(MuseTalkError, ValueError):
    """A video, a sound, a box or an option that cannot be used as it is."""

    exit_code = 2


class ModelFileError(MuseTalkError):
    """A weight file that is missing, damaged, or of another architecture."""

    exit_code = 3


class NoFaceError(InputError):
    """No frame of the footage shows a usable face."""

    exit_code = 4


class AvatarError(MuseTalkError):
    """A saved avatar that is damaged, stale, or of another version."""

    exit_code = 5


class OutputError(MuseTalkError, OSError):
    """The result cannot be written where it was asked for."""

    exit_code = 6


class Cancelled(MuseTalkError):
    """The caller asked the job to stop; nothing half-written is left behind."""
