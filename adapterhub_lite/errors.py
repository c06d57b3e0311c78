"""Every error a user can cause, in one tree.

A message says what went wrong, where (file, row, column, tensor, plug-in) and what to do about it. The command line
prints it as one line and exits with `exit_code`; a caller in Python catches `AdapterHubError` or one of its children.
"""

from __future__ import annotations


class AdapterHubError(Exception):
    """The root: catch this to catch everything the library raises on purpose."""

    exit_code = 1


class ConfigError(AdapterHubError):
    """An option, a strategy setting or a run file that cannot be used as given."""

    exit_code = 2


class DataError(AdapterHubError):
    """Training, evaluation or prediction data that cannot be used; names the file, row and column."""


class BaseNotFoundError(AdapterHubError):
    """A base reference that leads to no model, or to a model that cannot be loaded."""


class BaseMismatchError(AdapterHubError):
    """An adapter put on a base other than the one it was trained on; names what differs."""


class StrategyNotFoundError(AdapterHubError):
    """A strategy name that no installed plug-in provides, or that several provide."""


class PluginError(AdapterHubError):
    """A plug-in that failed; names the plug-in, its distribution and the stage."""


class NotSupportedError(AdapterHubError):
    """A combination of base, strategy, task and quantization that cannot work; says why and what can."""


class AdapterNotFoundError(AdapterHubError):
    """A path that holds no adapter."""


class AdapterCorruptError(AdapterHubError):
    """An adapter whose files are not what was saved; names the file and the reason."""


class StorageError(AdapterHubError):
    """Something that could not be written; names the path, and what stood there before is still whole."""


class TrainingError(AdapterHubError):
    """A run that cannot go on, such as one whose loss is not finite; names the step."""


class MergeError(AdapterHubError):
    """A merged model that does not do what its adapter does; nothing of it is kept."""
