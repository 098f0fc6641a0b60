"""What runs of the monitors leave on disk for good, and what only the newest of them do.

A run is 50 kB of findings for machines and people, and 4 MB of pictures. Hourly runs would fill 40 GB in a year, so
pictures are kept of the newest only; findings of all of them stay, for they are the history.
"""

import os
import tempfile
from pathlib import Path

KEPT_DRAWN = 200  # runs; our choice: as many as the ops pages list, which is a week of hourly runs


def thin(reports: Path, *, page: str, linked: str, drawn: tuple[str, ...], kept: int = KEPT_DRAWN) -> int:
    """Take the files `drawn` out of all but the newest `kept` runs below `reports`; the number of runs that lost theirs.

    page: the file of a run that links to `linked`, one of those drawn; the link goes too. Folders of runs start with their
    time, so that their names are in its order. Files that another process took away meanwhile are passed over.
    """
    folders = sorted((one for one in reports.iterdir() if not one.name.startswith(".")), reverse=True)
    thinned = 0
    for folder in folders[kept:]:
        if not any((folder / name).is_file() for name in drawn):
            continue
        _unlink(folder / page, linked)
        for name in drawn:
            (folder / name).unlink(missing_ok=True)
        thinned += 1
    return thinned


def _unlink(page: Path, linked: str) -> None:
    """The page without its link, whole or not at all; what was written beside the link stays."""
    try:
        before, _, rest = page.read_text("utf-8").partition(f'<a href="{linked}">')
    except FileNotFoundError:
        return
    text, _, after = rest.partition("</a>")
    handle, partial = tempfile.mkstemp(dir=page.parent, prefix=".partial-")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(f"{before}{text}{' (no longer kept)' if text else ''}{after}")
    Path(partial).chmod(
        page.stat().st_mode & 0o777
    )  # mkstemp gives 0600; the service that shows runs may be another user
    os.replace(partial, page)  # noqa: PTH105
