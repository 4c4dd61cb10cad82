"""The release that replicas take when they start, whenever that is; in a light process of its own."""

from sisr.serving.release import Release


class ReleaseStore:
    """Holds one release."""

    def __init__(self) -> None:
        self._release: Release | None = None  # where it was started anew: until `Service.mend`

    def put(self, release: Release) -> None:
        """Hold another release."""
        self._release = release

    def take(self) -> Release:
        """Return the release."""
        assert self._release is not None, "no release yet; Serve tries again"
        return self._release

    def version(self) -> str:
        """Return the release's version; empty where there is none."""
        return "" if self._release is None else self._release.version
