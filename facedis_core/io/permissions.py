"""Permissions of a file, for the one that replaces it: mode, owner, group and access list.

Standard library only.
"""

import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_ACCESS_LIST = "system.posix_acl_access"  # extended attribute, on Linux


@dataclass(frozen=True)
class Permissions:
    """Permissions of a file.

    Attributes:
        mode: read, write and execute bits; never setuid, setgid or sticky.
        owner, group: numeric ids.
        access_list: POSIX access list as the system stores it; None where there is none.
    """

    mode: int
    owner: int
    group: int
    access_list: bytes | None

    @classmethod
    def of(cls, path: Path) -> "Permissions | None":
        """The permissions of a regular file; None if there is no such file."""
        try:
            found = path.stat()
        except OSError:
            return None
        if not stat.S_ISREG(found.st_mode):
            return None
        access_list = None
        if hasattr(os, "getxattr"):
            with suppress(OSError):
                access_list = os.getxattr(path, _ACCESS_LIST)
        return cls(found.st_mode & 0o777, found.st_uid, found.st_gid, access_list)

    def give_to(self, descriptor: int) -> None:
        """Give an open file these permissions, or fewer where the system refuses some."""
        mode = self.mode
        with suppress(OSError):  # only root may give a file away
            os.fchown(descriptor, self.owner, -1)
        with suppress(OSError):
            os.fchown(descriptor, -1, self.group)
        if os.fstat(descriptor).st_gid != self.group:
            mode = _without_group(mode)
        if hasattr(os, "setxattr"):
            try:
                if self.access_list is not None:
                    os.setxattr(descriptor, _ACCESS_LIST, self.access_list)
                else:  # one that new files in this folder get
                    os.removexattr(descriptor, _ACCESS_LIST)
            except OSError:
                if self.access_list is not None:
                    mode = _without_group(mode)
        with suppress(OSError):
            os.fchmod(descriptor, mode)


def _without_group(mode: int) -> int:
    """The mode with as much for the group as for all others."""
    return (mode & 0o707) | ((mode & 0o007) << 3)
