"""Whose a folder is, with all that is in it."""

import os
import stat
from pathlib import Path


def give(top: Path, uid: int, gid: int) -> None:
    """Make a directory somebody's, with all that another owner has left in it. Raises OSError.

    Of root's powers it asks for CAP_CHOWN alone: a folder that is somebody's already is ours meanwhile.
    """
    os.chown(top, os.geteuid(), -1)
    top.chmod(0o700)
    for _, folders, files, place in os.fwalk(top):  # by descriptors: nothing in it can lead us elsewhere
        for name in (*folders, *files):
            found = os.stat(name, dir_fd=place, follow_symlinks=False)
            if found.st_uid != uid and (found.st_nlink == 1 or stat.S_ISDIR(found.st_mode)):  # else a link to another's
                os.chown(name, uid, gid, dir_fd=place, follow_symlinks=False)
    os.chown(top, uid, gid)
