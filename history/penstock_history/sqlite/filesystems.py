"""Whether a file system can be trusted with a database that several processes write."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ("network_kind",)

_NETWORK = frozenset(
    "9p afp afs beegfs ceph cifs coda davfs davfs2 fuse.glusterfs fuse.rclone fuse.s3fs fuse.sshfs glusterfs gpfs "
    "lustre ncpfs nfs nfs4 ocfs2 pvfs2 smb2 smb3 smbfs vboxsf virtiofs".split()
)
"""File systems whose locks or shared memory other machines do not see, or see late."""

MOUNTS = Path("/proc/self/mountinfo")
"""What the kernel says about mounts; a system without it is trusted."""


def network_kind(folder: Path) -> str | None:
    """The kind of network file system that a folder lies on, or None if it is on none that is known.

    Args:
        folder: A folder that exists.
    """
    if not MOUNTS.exists():
        return None
    kind = _kind_of(os.path.realpath(folder), MOUNTS.read_text(errors="surrogateescape"))
    return kind if kind in _NETWORK else None


def _kind_of(folder: str, mounts: str) -> str:
    """The file system of the mount that the folder is in: the innermost one, and of several there the last."""
    best, kind = "", ""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        # The kernel writes a space in a name as \040, and other bytes likewise.
        point = before.split()[4].encode().decode("unicode_escape")
        inside = folder == point or folder.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, after.split()[0]
    return kind
