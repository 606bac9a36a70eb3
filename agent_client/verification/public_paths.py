"""Which paths of an ASGI application need no token. What can be read in two ways is not public."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

# Segments of RFC 3986's pchar, less what servers and routers are known to read differently: "%" (decoded once, twice or
# not at all), ";" (parameters to some), "*" (means something to us), and "\", which is no pchar but a "/" to some.
_PLAIN = re.compile(r"/|(?:/[A-Za-z0-9\-._~!$&'()+,=:@]++)++/?")
_DOTS = re.compile(r"/\.\.?(?:/|\Z)")  # RFC 3986 section 5.2.4: what others resolve before they route


def is_plain(path: str) -> bool:
    """Return whether every server and router reads this path in one way."""
    return _PLAIN.fullmatch(path) is not None and _DOTS.search(path) is None


def route_path(scope: Mapping[str, Any]) -> str | None:
    """Return the path that the application routes by, which is without its root; ``None`` when it is not plain.

    What the server received (``raw_path``) must be the very same: nothing in it was decoded.
    """
    path: str = scope["path"]
    root, raw = scope.get("root_path", ""), scope.get("raw_path")
    if not is_plain(path) or path == root:
        return None
    inner = path[len(root) :] if root and path.startswith(root + "/") else path
    if raw is not None and raw not in (path.encode("ascii"), inner.encode("ascii")):
        return None
    return inner


class PublicPaths:
    """A set of paths.

    Args:
        paths: Each an exact path as the application routes by it (without ``root_path``), or one that ends in ``/*``,
            which stands for everything below, and not for the path itself. Letter case and a last ``/`` count.

    Raises:
        TypeError: ``paths`` is one string, whose letters would be taken for paths.
        ValueError: A path is not plain, or is ``/*``: an API whose paths are all public needs no verification.
    """

    def __init__(self, paths: Collection[str]) -> None:
        if isinstance(paths, str):
            raise TypeError(f"public_paths is a list: write [{paths!r}]")
        below = [path.removesuffix("/*") for path in paths if path.endswith("/*")]
        self._exact = frozenset(path for path in paths if not path.endswith("/*"))
        for path in (*self._exact, *below):
            if not is_plain(path) or (path in below and path.endswith("/")):
                raise ValueError(f"{path!r} is no path that can be public: plain segments, no dots, no % and no *")
        self._prefixes = tuple(f"{path}/" for path in below)

    def __contains__(self, path: str) -> bool:
        # Not "/docs/" for "/docs/*": to some routers that is "/docs", the path itself.
        return path in self._exact or (path.startswith(self._prefixes) and path not in self._prefixes)
