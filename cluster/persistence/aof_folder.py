"""The folder of an append only file: the manifest in force, and the files it names.

Role        :class:`AofFolder` finds, reads and replaces the manifest, and takes over the single file of versions
            before 7.0.
Invariants  ``manifest`` is what the file on the disk says. It is replaced as a whole: written under another name,
            flushed to the disk, renamed, and the folder flushed, which makes new files in it durable, too.
Spec        aofLoadManifestFromDisk, persistAofManifest, aofUpgradePrepare in aof.c; log texts are Redis's.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from cluster.errors import ConfigError
from cluster.persistence.aof_manifest import (
    Manifest,
    ManifestError,
    manifest_name,
    parse_manifest,
    temporary_manifest_name,
)
from cluster.persistence.snapshot import sync_folder
from cluster.settings import Settings

Log = Callable[[str, str], None]


class AofFolder:
    """Where one server's append only file is."""

    def __init__(self, settings: Settings, log: Log) -> None:
        self._settings = settings
        self._log = log
        self.manifest = Manifest()

    @property
    def name(self) -> str:
        """The folder's name in the server's ``dir``."""
        return self._settings.appenddirname

    def path(self, name: str) -> str:
        """The path of a file in the folder."""
        return os.path.join(self._settings.dir, self._settings.appenddirname, name)

    def create(self) -> None:
        """Make the folder if there is none. Raises OSError."""
        path = self.path("")
        if not os.path.isdir(path):
            os.mkdir(path, 0o755)
            sync_folder(self._settings.dir)

    def size(self, name: str) -> int:
        """The size of a file, 0 (and the reason in the log) where it cannot be told."""
        try:
            return self.exact_size(name)
        except OSError:
            return 0

    def exact_size(self, name: str) -> int:
        """The size of a file. Raises OSError, after logging it."""
        try:
            return os.stat(self.path(name)).st_size
        except OSError as failure:
            self._log("warning", f"Unable to obtain the AOF file {name} length. stat: {failure.strerror}")
            raise

    def load(self) -> None:
        """Read the manifest; without one it is empty. Raises ConfigError, with everything in the log."""
        self.manifest = Manifest()
        if not os.path.isdir(self.path("")):
            self._log("debug", f"The AOF directory {self.name} doesn't exist")
            return
        name = manifest_name(self._settings.appendfilename)
        path = self.path(name)
        if not os.path.lexists(path):
            self._log("debug", f"The AOF manifest file {name} doesn't exist")
            return
        try:
            with open(path, "rb") as file:
                text = file.read()
        except OSError as failure:
            raise ConfigError(
                f"Fatal error: can't open the AOF manifest file {path} for reading: {failure.strerror}"
            ) from None
        try:
            self.manifest = parse_manifest(text)
        except ManifestError as problem:
            *lines, last = problem.log_lines()
            for line in lines:
                self._log("warning", line)
            raise ConfigError(last) from None

    def save(self, manifest: Manifest) -> bool:
        """Make ``manifest`` the one in force; False (and the reason in the log) when that failed."""
        text = manifest.format()
        if text == self.manifest.format():
            self.manifest = manifest
            return True
        filename = self._settings.appendfilename
        temporary = temporary_manifest_name(filename)
        final = manifest_name(filename)
        failed = f"Can't open the AOF manifest file {temporary}"
        try:
            with open(self.path(temporary), "wb") as file:
                failed = f"Error trying to write the temporary AOF manifest file {temporary}"
                file.write(text)
                file.flush()
                failed = f"Fail to fsync the temp AOF file {temporary}"
                os.fsync(file.fileno())
            failed = f"Error trying to rename the temporary AOF manifest file {temporary} into {final}"
            os.rename(self.path(temporary), self.path(final))
        except OSError as failure:
            self._log("warning", f"{failed}: {failure.strerror}")
            return False
        self.manifest = manifest
        try:
            sync_folder(self.path(""))
        except OSError as failure:
            # It is in force nevertheless: whoever took that for a failure would remove files that it names.
            self._log("warning", f"Fail to fsync AOF directory {self.path(final)}: {failure.strerror}.")
        return True

    def upgrade(self) -> None:
        """If there is a single file of an older version, make it our base. Raises ConfigError.

        A crash at any point leaves a state from which this begins again.
        """
        filename = self._settings.appendfilename
        old_path = os.path.join(self._settings.dir, filename)
        if not os.path.lexists(old_path) or not self._may_upgrade():
            return
        try:
            self.create()
        except OSError as failure:
            raise ConfigError(f"Can't open or create append-only dir {self.name}: {failure.strerror}") from None
        if not self.save(self.manifest.adopting(filename)):
            raise ConfigError("The manifest of the append only file could not be written")
        try:
            os.rename(old_path, self.path(filename))
            sync_folder(self.path(""))
        except OSError as failure:
            raise ConfigError(
                f"Error trying to move the old AOF file {filename} into dir {self.name}: {failure.strerror}"
            ) from None
        self._log(
            "notice",
            f"Successfully migrated an old-style AOF file ({filename}) into the AOF directory ({self.name}).",
        )

    def _may_upgrade(self) -> bool:
        manifest = self.manifest
        if manifest.incrs:
            return not os.path.isdir(self.path(""))
        base = manifest.base
        filename = self._settings.appendfilename
        return base is None or (base.name == filename and not os.path.lexists(self.path(filename)))
