"""The errors that people see.

    AyaflowError
    ├── SettingsError         a setting is unknown, mistyped or out of range
    ├── EnvironmentProblem    this machine lacks something: a privilege, a package, a kernel feature, a free port
    ├── ServiceUnavailable    Kafka, ClickHouse or a registry did not answer; trying again may help
    ├── DecodeError           bytes that are not what they should be: a foreign or damaged message
    └── QueryError            a query or filter that cannot be answered as it was asked

Every message is a sentence that says what happened and what to do. The command line prints it without a
traceback and exits with the class's `exit_code`; the cause is kept for `--log-level debug`.
"""


class AyaflowError(Exception):
    """Base of all errors that are a message for a person."""

    exit_code = 1


class SettingsError(AyaflowError):
    """A setting is unknown, mistyped or out of range."""

    exit_code = 2


class EnvironmentProblem(AyaflowError):
    """This machine lacks something that we cannot go on without."""

    exit_code = 3


class ServiceUnavailable(AyaflowError):
    """A server did not answer, or answered that it cannot serve now."""

    exit_code = 4


class DecodeError(AyaflowError):
    """Bytes that are not what they should be."""


class QueryError(AyaflowError):
    """A query or filter that cannot be answered as it was asked."""

    exit_code = 2
