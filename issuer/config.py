"""The configuration: read once from a TOML file and the environment, all faults at once.

The environment wins over the file: ``ISSUER_SERVER_LISTEN`` sets ``listen`` in ``[server]``. Paths in the file are
relative to the file. What can be set is in ``config_sections.py``.
"""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from issuer.config_sections import Config
from issuer.core.nearest import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ENVIRONMENT_PREFIX = "ISSUER_"


class ConfigError(Exception):
    """The configuration cannot be used. ``faults`` has one readable line for each thing to mend."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def load_config(path: Path, environment: Mapping[str, str]) -> Config:
    """Read and check the configuration.

    Args:
        path: The TOML file.
        environment: The process's environment; variables ``ISSUER_<SECTION>_<KEY>`` win over the file.

    Raises:
        ConfigError: With every fault found, each with the file, the line where there is one, and the remedy.
    """
    return parse_config(read_config(path), path, environment)


def parse_config(text: str, path: Path, environment: Mapping[str, str]) -> Config:
    """Check the configuration that a file held when its text was read; otherwise as :func:`load_config`."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{path}: not valid TOML: {error}"]) from None
    sources = _apply_environment(data, environment)
    try:
        return Config.model_validate(data, context=path.resolve().parent)
    except ValidationError as error:
        raise ConfigError([_fault(path, text, sources, dict(detail)) for detail in error.errors()]) from None


def read_config(path: Path) -> str:
    """Return the text of a configuration file.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError([f"{path}: no such file; `issuer init` writes one to start from"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: cannot be read: {error}"]) from None


def _apply_environment(data: dict[str, Any], environment: Mapping[str, str]) -> dict[tuple[str, str], str]:
    """Put the environment's settings into ``data``; return which variable set which."""
    sources = {}
    for section, model in Config.model_fields.items():
        for key in _keys_of(model.annotation):
            variable = f"{ENVIRONMENT_PREFIX}{section}_{key}".upper()
            if (value := environment.get(variable)) is not None:
                table = data.setdefault(section, {})
                if isinstance(table, dict):
                    table[key] = _typed(value)
                    sources[section, key] = variable
    return sources


def _keys_of(model: Any) -> list[str]:  # noqa: ANN401
    return list(model.model_fields)


def _typed(value: str) -> object:
    """Read a variable as TOML would where it is a list, a number or a boolean; else it is the string itself."""
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return value
    return parsed if isinstance(parsed, int | list) else value


def _fault(path: Path, text: str, sources: Mapping[tuple[str, str], str], detail: dict[str, Any]) -> str:
    location = tuple(str(part) for part in detail["loc"])
    section, key = location[0], location[1] if len(location) > 1 else ""
    where = f"${sources[section, key]}" if (section, key) in sources else _where(path, text, section, key)
    name = f"[{section}] {key}".rstrip() if key or section in Config.model_fields else section
    return f"{where}: {name}: {_explanation(detail, location)}"


def _explanation(detail: dict[str, Any], location: tuple[str, ...]) -> str:
    if detail["type"] == "extra_forbidden":
        known = _keys_of(Config.model_fields[location[0]].annotation) if len(location) > 1 else Config.model_fields
        return f"is not a setting{nearest(location[-1], known)}"
    if detail["type"] == "missing":
        return "is required"
    return str(detail["msg"]).removeprefix("Value error, ")


def _where(path: Path, text: str, section: str, key: str) -> str:
    """Return ``file:line`` of a setting, of its section where it is absent, or the file alone."""
    current, section_line = "", None
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\s*([A-Za-z0-9_.-]+)\s*\]", line):
            current = header[1]
            section_line = number if current == section else section_line
        elif current == section and key and re.match(rf"\s*{re.escape(key)}\s*=", line):
            return f"{path}:{number}"
    return f"{path}:{section_line}" if section_line else str(path)
