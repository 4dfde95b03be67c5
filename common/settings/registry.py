"""The schema registry's settings."""

from pydantic import Field

from common.settings.base import Section


class SchemaRegistrySettings(Section):
    """A Confluent-compatible schema registry."""

    url: str | None = Field(
        None,
        repr=False,  # with a password in it
        description="Ids come from this registry; without it they are fixed, and the console serves them. "
        "As https://USER:${file:/run/secrets/x}@HOST with a password.",
    )
