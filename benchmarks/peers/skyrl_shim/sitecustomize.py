"""SkyRL describes its data with `typing.TypedDict`, which pydantic takes from Python 3.12 on only. Imported by every
Python that finds this folder on its path."""

import sys
import typing

if sys.version_info < (3, 12):
    import typing_extensions

    typing.TypedDict = typing_extensions.TypedDict  # type: ignore[assignment,misc]
