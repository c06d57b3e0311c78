"""What the operating system refuses, said as an error a user can act on."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from adapterhub_lite.errors import StorageError

_ADVICE = {
    errno.ENOSPC: "make room or choose another disk",
    errno.EDQUOT: "your disk quota is used up; make room or choose another disk",
    errno.EFBIG: "the limit on file sizes is reached; raise it (ulimit -f) or choose another disk",
    errno.EROFS: "choose a folder on a disk that can be written to",
    errno.EACCES: "choose a folder you may write in",
    errno.EPERM: "choose a folder you may write in",
    errno.EIO: "the disk may be failing; choose another one",
    errno.ENAMETOOLONG: "choose a shorter name",
}


def storage_error(error: OSError, target: Path) -> StorageError:
    """Return the error that tells a user why nothing could be saved at `target`."""
    place = f" ({error.filename})" if error.filename and str(error.filename) != str(target) else ""
    reason = error.strerror or str(error)
    if error.errno == errno.ENOSPC:
        reason += f", {_free_space(target)} free"
    advice = _ADVICE.get(error.errno or 0, "choose another folder")
    return StorageError(f"cannot save to {target}: {reason}{place}; {advice}; what was there before is untouched")


def _free_space(target: Path) -> str:
    folder = target.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return f"{shutil.disk_usage(folder).free / 1e6:.1f} MB"
    except OSError:
        return "unknown space"
