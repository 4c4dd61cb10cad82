"""What can go wrong, by exit code.

| code | meaning |
|---|---|
| 0 | done |
| 2 | the command line or a setting is wrong |
| 3 | the images can't be used |
| 4 | no checkpoint or model file can be used |
| 5 | training diverged or ran out of memory |
| 6 | another process holds the run |
| 7 | a model was refused: it is not better than what there is |
| 69 | a tracking server was required and does not answer |
| 70 | our own mistake |
| 73 | can't write (disk full, no permission) |
| 74 | object storage does not answer, or refuses |
| 75 | stopped before the end; the same command goes on |
| 130 | interrupted a second time; stopped at once |
"""


class SisrError(Exception):
    """An error whose message is for the user: what, where, and what would be right."""

    exit_code = 70


class ConfigError(SisrError, ValueError):
    """A command-line option, setting or name that can't be used."""

    exit_code = 2


class DataError(SisrError, ValueError):
    """Images that can't be used."""

    exit_code = 3


class CheckpointError(SisrError):
    """A checkpoint or model file that is missing, damaged or does not fit."""

    exit_code = 4


class DivergedError(SisrError):
    """Training produced numbers it can't recover from."""

    exit_code = 5


class OutOfMemoryError(SisrError):
    """A device had too little memory for one step."""

    exit_code = 5


class RunLockedError(SisrError):
    """Another process is executing the run."""

    exit_code = 6


class GateError(SisrError):
    """A model that must not be registered: it failed a test that others rely on."""

    exit_code = 7


class TrackingError(SisrError):
    """A tracking server was required and does not answer."""

    exit_code = 69


class DiskError(SisrError, OSError):
    """Something could not be written."""

    exit_code = 73


class StorageError(SisrError):
    """Object storage does not answer, refuses, or holds something else than expected."""

    exit_code = 74

    def __init__(self, problem: str, remedy: str = "") -> None:
        """Keep apart what is wrong and, where that is known, what would be right; the text has both."""
        super().__init__(f"{problem}: {remedy}" if remedy else problem)
        self.problem, self.remedy = problem, remedy


class StoppedError(SisrError):
    """The run was asked to stop and has saved its state; running the same command again goes on."""

    exit_code = 75
