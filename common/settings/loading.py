"""From a file, the environment and flags to settings; every mistake is a sentence."""

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from common.errors import SettingsError
from common.settings.root import ENV_PREFIX, Settings

CONFIG_ENV = "AYAFLOW_CONFIG"


def setting_names() -> dict[str, Any]:
    """Each setting's dotted name and its pydantic FieldInfo, section by section."""
    return dict(_walk(Settings, ""))


def _walk(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, info in model.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _walk(kind, f"{prefix}{name}.")
        else:
            yield prefix + name, info


def environment_name(setting: str) -> str:
    """`kafka.partitions` -> `AYAFLOW_KAFKA_PARTITIONS`."""
    return ENV_PREFIX + setting.replace(".", "_").upper()


def load(config: Path | None = None, flags: Mapping[str, Any] | None = None) -> Settings:
    """Read the settings.

    `flags` are dotted names to values, from the command line; None values are left out. `config` defaults to
    AYAFLOW_CONFIG. Raises SettingsError with a sentence a person can act on.
    """
    if config is None and os.environ.get(CONFIG_ENV):
        config = Path(os.environ[CONFIG_ENV])
    tree = _read_file(config) if config else {}
    _check_names(tree)
    given = _environment() | {name: value for name, value in (flags or {}).items() if value is not None}
    later: dict[str, Any] = {}
    for name, value in given.items():
        _put(later, name, value)
        _put(tree, name, value)
    _check_names(later)
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        value = "" if _is_secret(first["loc"]) else f" (it is {first['input']!r})"
        advice = ". Write it in quotes" if first["type"] == "string_type" else ""
        raise SettingsError(f"{name}: {first['msg']}{value}{advice}") from None  # its text has the value, too


def _is_secret(place: Sequence[str | int]) -> bool:
    """Whether a password may stand there: such fields are not shown with their section either."""
    info = setting_names().get(".".join(str(part) for part in place[:2]))
    return len(place) < 2 or (info is not None and not info.repr)


def parse_assignment(text: str) -> tuple[str, str]:
    """`section.key=value` of `--set`. Raises SettingsError."""
    name, equals, value = text.partition("=")
    if not equals:
        raise SettingsError(f"--set {text}: write it as section.key=value")
    if name not in setting_names():
        raise SettingsError(_unknown(f"--set {name}", name, list(setting_names())))
    return name, value


def _put(tree: dict[str, Any], name: str, value: Any) -> None:
    *sections, last = name.split(".")
    for section in sections:
        if tree.get(section) is None:  # also where a file has its name and nothing below it
            tree[section] = {}
        tree = tree[section]
    tree[last] = value


def _read_file(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read the settings file {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid YAML: {_without_its_text(error)}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise SettingsError(f"{path} must be a mapping of settings at its top")
    return tree


def _without_its_text(error: yaml.YAMLError | UnicodeDecodeError) -> str:
    """What is wrong and where; not the lines around it, in which a password may stand."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return str(error).splitlines()[0]
    return f"{error.problem} in line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}"


def _check_names(tree: Mapping[str, Any]) -> None:
    known = list(setting_names())
    sections = {name.partition(".")[0] for name in known if "." in name}
    for key, value in tree.items():
        if key in sections:
            if value is not None and not isinstance(value, dict):
                raise SettingsError(f"{key} is a section; write its settings below it")
            for inner in value or {}:
                if f"{key}.{inner}" not in known:
                    raise SettingsError(_unknown(f"{key}.{inner}", f"{key}.{inner}", known))
        elif key not in known:
            raise SettingsError(_unknown(str(key), str(key), [*sections, *known]))


def _environment() -> dict[str, str]:
    """Dotted name to text of all that is set there. Raises SettingsError."""
    known = {environment_name(name): name for name in setting_names()}
    given = {}
    for variable, text in os.environ.items():
        if variable in known:
            given[known[variable]] = text
        elif variable.startswith(ENV_PREFIX) and variable != CONFIG_ENV:
            raise SettingsError(_unknown(f"environment variable {variable}", variable, [*known, CONFIG_ENV]))
    return given


def _unknown(what: str, word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if not near and "." in word:  # the right key in the wrong section
        near = [name for name in known if name.rpartition(".")[2] == word.rpartition(".")[2]]
    return f"{what} is not a setting" + (
        f"; did you mean {near[0]}?" if near else "; docs/configuration.md lists them all"
    )
