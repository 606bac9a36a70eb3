"""An access token that does not leak: it prints as nothing."""

from __future__ import annotations

from typing import Never, Self


class AccessToken:
    """A signed token, or none after ``validate_only``. False in a condition when there is none.

    It prints as nothing and cannot be pickled; :meth:`reveal` is the only way to its text.
    """

    __slots__ = ("__text",)

    def __init__(self, text: str) -> None:
        self.__text = text

    def reveal(self) -> str:
        """Return the token itself, for the ``Authorization`` header of a request to its audience.

        Raises:
            ValueError: There is none, since the request was ``validate_only``.
        """
        if not self.__text:
            raise ValueError("there is no token: the request was validate_only")
        return self.__text

    def __bool__(self) -> bool:
        return bool(self.__text)

    def __repr__(self) -> str:
        return "AccessToken()"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _: object) -> Self:
        """Return itself: it never changes, and ``dataclasses.asdict`` of an answer keeps the blank print."""
        return self

    def __reduce__(self) -> Never:
        """Refuse to be pickled: a pickle holds the text in the clear."""
        raise TypeError("a token is not pickled: its text leaves the process only by reveal()")
