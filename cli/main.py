"""`ayaflow`: the one entry point. Components are imported by the command that runs them, and by no other."""

import difflib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import click

from cli import extras, options, proxies, standard, unused
from cli.commands import check, history, look, more, run
from cli.commands.more import COMPLETE_ENV
from cli.options import Flags
from common.errors import AyaflowError, EnvironmentProblem, SettingsError
from console.query.errors import FilterError

GROUPS = (
    ("Run", run.COMMANDS),
    ("Look", look.COMMANDS),
    ("Check", check.COMMANDS),
    ("Correct", history.COMMANDS),
    ("More", more.COMMANDS),
)
"""The commands in the order people need them."""

_INTERRUPTED = 130  # as shells number a process that SIGINT ended
_BROKEN_PIPE = 141  # … and SIGPIPE


class Commands(click.Group):
    """Lists commands by group; knows what a mistyped one may have been."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Help by group."""
        for title, commands in GROUPS:
            with formatter.section(title):
                formatter.write_dl([(str(one.name), one.get_short_help_str(90)) for one in commands])

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All of them, in order."""
        return [str(one.name) for _, commands in GROUPS for one in commands]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """A command, or the nearest one in the error."""
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            names = self.list_commands(ctx)
            near = difflib.get_close_matches(args[0], names, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"the commands are: {', '.join(names)}"
            raise click.UsageError(f"there is no command {args[0]!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; EnvironmentProblem when the extra that it needs is not installed."""
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            problem = extras.problem(ctx.invoked_subcommand or "", error.name or "")
            if problem is None:
                raise
            raise problem from error


@click.group(
    cls=Commands,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="`ayaflow COMMAND --help` shows an example of each. Settings: docs/configuration.md.",
)
@options.common
@options.this_node
@click.version_option(package_name="ayaflow", message="ayaflow %(version)s")
def cli() -> None:
    """Who talks to whom on this machine or a fleet: eBPF, Kafka, Faust and ClickHouse, with exact totals."""


for _, members in GROUPS:
    for command in members:
        cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Never shows a traceback for what a person can put right."""
    if arguments is None:
        standard.prepare()
        proxies.spare_loopback(os.environ)
    if COMPLETE_ENV in os.environ:
        cli.main(prog_name="ayaflow", complete_var=COMPLETE_ENV)  # asked by a shell; does not return
    words = list(sys.argv[1:] if arguments is None else arguments)
    flags = Flags()
    try:
        with unused.left_out():
            return _run(words or ["--help"], flags)
    except (KeyboardInterrupt, click.Abort):
        return _INTERRUPTED
    except BrokenPipeError:
        return _BROKEN_PIPE  # the reader (| head) has what it wanted
    except (click.UsageError, AyaflowError, UnicodeError, OSError) as error:
        return _fail(error, flags)
    finally:
        standard.leave()


def _run(words: list[str], flags: Flags) -> int:
    try:
        with cli.make_context("ayaflow", words, obj=flags) as context:
            code = cli.invoke(context)
    except click.exceptions.Exit as done:
        code = done.exit_code
    sys.stdout.flush()
    return code if isinstance(code, int) else 0


def _fail(error: Exception, flags: Flags) -> int:
    if flags.values.get("log.level") == "debug":
        traceback.print_exc()
    message, code = _said(error)
    standard.say(f"ayaflow: error: {message}")
    if isinstance(error, FilterError) and error.caret:
        standard.say(error.caret)
    return code


def _said(error: Exception) -> tuple[str, int]:
    """The sentence, and the exit code."""
    match error:
        case click.UsageError():
            return _usage(error), error.exit_code
        case AyaflowError():
            return str(error), error.exit_code
        case UnicodeError():
            return f"text that is not UTF-8 was given: {error}", SettingsError.exit_code
        case OSError(filename=None):
            return error.strerror or str(error), EnvironmentProblem.exit_code
        case OSError():
            return f"{error.filename}: {error.strerror}", EnvironmentProblem.exit_code
    raise error


def _usage(error: click.UsageError) -> str:
    message = error.format_message().rstrip(".")
    if isinstance(error, click.NoSuchOption):
        near = " or ".join(sorted(error.possibilities or ()))
        message = f"there is no option {error.option_name}" + (f"; did you mean {near}?" if near else "")
    return f"{message} (see {error.ctx.command_path if error.ctx else 'ayaflow'} --help)"


if __name__ == "__main__":
    sys.exit(main())
