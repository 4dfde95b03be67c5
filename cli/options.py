"""Options that every command takes, before or after its name, and how settings come of them."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from cli import unused
from common import logs
from common import settings as settings_module
from common.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(slots=True)
class Flags:
    """What the command line said about settings so far; options after the command's name win."""

    config: Path | None = None
    values: dict[str, Any] = field(default_factory=dict)  # dotted names of settings

    @property
    def names_a_file(self) -> bool:
        """Whether somebody said where the settings are."""
        return bool(self.config or os.environ.get(settings_module.CONFIG_ENV))

    def load(self, config: Path | None = None) -> Settings:
        """The settings; `config`: another file. Raises SettingsError."""
        return settings_module.load(config or self.config, self.values)


def flags_of(context: click.Context) -> Flags:
    """The flags of this run."""
    return context.ensure_object(Flags)


def begin(context: click.Context) -> Settings:
    """The settings of this run; logs go to standard error as they say. Raises SettingsError."""
    settings = flags_of(context).load()
    logs.configure(level=settings.log.level, form=settings.log.format)
    if settings.streams.operators:
        unused.let_in()
    return settings


def _keep(setting: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def keep(context: click.Context, _parameter: click.Parameter, value: Any) -> None:
        if value is not None and value != ():
            # a list of interfaces stays one, all else is text that the settings parse
            flags_of(context).values[setting] = list(value) if isinstance(value, tuple) else value

    return keep


def _keep_config(context: click.Context, _parameter: click.Parameter, value: Path | None) -> None:
    if value is not None:
        flags_of(context).config = value


def _keep_assignments(context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> None:
    for text in values:
        name, value = settings_module.parse_assignment(text)
        flags_of(context).values[name] = value


def _settings(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of settings, for completion."""
    return [
        CompletionItem(f"{name}=", help=info.description)
        for name, info in settings_module.setting_names().items()
        if name.startswith(incomplete)
    ]


def complete_filter(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Fields of filters, for completion; a filter in quotes is one word, of which the end is completed."""
    from console.query.vocabulary import ALIASES, FIELDS

    before, word = re.fullmatch(r"(.*?)(\w*)", incomplete, re.DOTALL).groups()  # type: ignore[union-attr]
    fields = {**FIELDS, **{alias: FIELDS[name] for alias, name in ALIASES.items()}}
    return [CompletionItem(before + name, help=field.doc) for name, field in fields.items() if name.startswith(word)]


def common(command: F) -> F:
    """The options of every command."""
    for option in reversed(
        (
            click.option(
                "--config",
                type=click.Path(path_type=Path),
                metavar="FILE",
                expose_value=False,
                callback=_keep_config,
                help="Settings file (YAML); default: $AYAFLOW_CONFIG.",
            ),
            click.option(
                "--data-dir",
                metavar="DIR",
                expose_value=False,
                callback=_keep("data_dir"),
                help="Where Kafka, ClickHouse and logs keep their data.",
            ),
            click.option(
                "--set",
                "assignments",
                multiple=True,
                metavar="SECTION.KEY=VALUE",
                expose_value=False,
                callback=_keep_assignments,
                shell_complete=_settings,
                help="Any setting; repeatable.",
            ),
            click.option(
                "--log-level",
                type=click.Choice(["debug", "info", "warning", "error"]),
                expose_value=False,
                callback=_keep("log.level"),
                help="Lowest level that is logged; debug shows the cause of an error.",
            ),
        )
    ):
        command = option(command)
    return command


def this_node(command: F) -> F:
    """`--node` as a setting."""
    return click.option("--node", metavar="NAME", expose_value=False, callback=_keep("node"), help="This node's name.")(
        command
    )


def interface(command: F) -> F:
    """`--interface`, repeatable."""
    return click.option(
        "--interface",
        "-i",
        multiple=True,
        metavar="IF",
        expose_value=False,
        callback=_keep("capture.interfaces"),
        help="Interface to watch; repeatable. Default: those with a default route.",
    )(command)


def deep_inspect(command: F) -> F:
    """`--deep-inspect`."""
    return click.option(
        "--deep-inspect",
        is_flag=True,
        default=None,
        expose_value=False,
        callback=_keep("capture.inspect"),
        help="Read names: DNS, TLS, QUIC and HTTP, on any port.",
    )(command)


def window(command: F) -> F:
    """`--window`."""
    return click.option(
        "--window",
        metavar="SECONDS",
        expose_value=False,
        callback=_keep("streams.window_seconds"),
        help="Length of a window, 1 to 3600.",
    )(command)


def allowed_ips(command: F) -> F:
    """`--allowed-ips`."""
    return click.option(
        "--allowed-ips",
        metavar="CIDR,…",
        expose_value=False,
        callback=_keep("console.allowed_ips"),
        help="Networks that may use the dashboard and API; others get 403.",
    )(command)


def resolve_dns(command: F) -> F:
    """`--resolve-dns`."""
    return click.option(
        "--resolve-dns",
        is_flag=True,
        default=None,
        expose_value=False,
        callback=_keep("names.reverse"),
        help="Ask DNS what addresses without a name are called; such names are marked `reverse`.",
    )(command)


def time_range(since: str | None) -> Callable[[F], F]:
    """`--since` and `--until`, and in which zone they and the times that are shown are."""

    def add(command: F) -> F:
        command = click.option(
            "--utc/--local",
            "utc",
            default=True,
            help="Days, TIME without an offset, and the times that are shown to people; json, csv and arrow are in UTC."
            " Default: --utc.",
        )(command)
        command = click.option(
            "--until", default="now" if since else None, show_default=bool(since), metavar="TIME", help="Like --since."
        )(command)
        return click.option(
            "--since",
            default=since,
            show_default=True if since else "everything stored",
            metavar="TIME",
            help="10m, 2h, 1d, today, yesterday, or ISO 8601.",
        )(command)

    return add


def form(*, choices: tuple[str, ...] = ("table", "json", "csv")) -> Callable[[F], F]:
    """`--format`."""
    return click.option(
        "--format",
        "form",
        type=click.Choice(choices),
        default="table",
        show_default=True,
        help="json is one object a line." if "csv" in choices else "Output.",
    )
