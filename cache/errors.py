"""The one error family: everything a user can cause and fix.

The command line turns a `UserError` into one line and exit code 2; anything else is a defect and keeps its
traceback. `pipeline.errors` adds its own members to the family.
"""


class UserError(Exception):
    """Names the file or flag, what was expected, what was found and what to do. One line."""


class CacheError(UserError):
    """A cache file is missing, damaged, hostile, or in use."""


class StaleCacheError(CacheError):
    """A cache exists, but was made from other weights, transform, views, dtype or images."""


class StoreError(UserError):
    """A remote store can't be used: no driver, no network, no credentials, or an address that is none."""
