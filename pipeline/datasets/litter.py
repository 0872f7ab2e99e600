"""Files and folders that systems and programs leave among images: never images that somebody meant.

Thumbnails of a NAS would double images, in a folder that looks like a class, and stand in both splits.
"""

import functools

LITTER = frozenset(
    [
        *(
            "@eadir",
            "@tmp",
            "@__thumb",
            ".@__thumb",
            "@recycle",
            "@recently-snapshot",
            "@snapshot",
            "@sharebin",
        ),
        *("#recycle", "#snapshot", "~snapshot", ".snapshot", ".zfs", ".streams", "lost+found"),  # of a NAS
        *("__macosx", ".ds_store", ".appledouble", ".appledb", ".appledesktop", "network trash folder"),
        *("temporary items", ".temporaryitems", ".trashes", ".trash", ".fseventsd", ".spotlight-v100"),
        *(".documentrevisions-v100", ".localized", ".volumeicon.icns", "icon\r"),  # of macOS
        *("$recycle.bin", "system volume information", "found.000", "thumbs.db"),
        *("ehthumbs.db", "desktop.ini", "folder.htt", "msdownld.tmp"),  # of Windows
        # of viewers of images, notebooks, version control and editors
        *(".thumbnails", ".thumbs", ".xvpics", ".picasaoriginals", "picasa.ini", ".picasa.ini", ".directory"),
        *(
            ".ipynb_checkpoints",
            "__pycache__",
            ".git",
            ".svn",
            ".hg",
            ".bzr",
            ".dvc",
            ".idea",
            ".vscode",
            ".vs",
        ),
    ]
)
"""Names in lower case."""
BEGINNINGS = "._", ".trash-", ".nfs", ".fuse_hidden", ".~lock.", "~$", ".goutputstream-", ".sync."
"""How further such names begin: forks of macOS, trash of Linux, files in use."""


def is_litter(name: str) -> bool:
    """Whether a file or folder of this name is left out wherever images are looked for or listed."""
    name = name.casefold()
    return name in LITTER or name.startswith(BEGINNINGS)


def litter_in(path: str) -> str:
    """The first part of a path that is litter, "@eaDir" of "a/@eaDir/b.jpg/c.jpg"; empty where none is."""
    folder, _, name = path.rpartition("/")
    return _above(folder) or (name if is_litter(name) else "")


@functools.lru_cache(4096)  # the folders of a list are few
def _above(folder: str) -> str:
    return next(filter(is_litter, folder.split("/")), "")
