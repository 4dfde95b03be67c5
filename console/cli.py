"""`ayaflow`: the one entry point. Components are imported by the command that runs them, and by no other."""

import difflib
import os
import sys
import traceback
from datetime import UTC, datetime
from importlib import metadata

import click

from common import logs
from common.errors import AyaflowError, EnvironmentProblem
from common.settings import Settings
from console import options
from console.options import Flags, flags_of

GROUPS = (
    ("Run", ("up", "producer", "streams", "console", "kafka", "clickhouse")),
    ("Look", ("flows", "query")),
    ("Check", ("audit", "doctor")),
    ("More", ("detach", "version")),
)
"""The commands in the order people need them."""


class Commands(click.Group):
    """Lists commands by group; knows what a mistyped one may have been."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Help by group."""
        for title, names in GROUPS:
            with formatter.section(title):
                formatter.write_dl([(name, self.commands[name].get_short_help_str(90)) for name in names])

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All of them, in order."""
        return [name for _, names in GROUPS for name in names]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """A command, or the nearest one in the error."""
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"the commands are: {', '.join(self.list_commands(ctx))}"
            raise click.UsageError(f"there is no command {args[0]!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)


@click.group(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="`ayaflow COMMAND --help` shows an example of each. Settings: docs/configuration.md.",
)
@options.common
@click.version_option(metadata.version("ayaflow") if False else None, package_name="ayaflow", message="ayaflow %(version)s")
def cli() -> None:
    """Who talks to whom on this machine or a fleet: eBPF, Kafka, Faust and ClickHouse, with exact totals."""
