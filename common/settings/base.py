"""What all groups of settings have in common."""

from typing import Any, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator


class Section(BaseModel):
    """A group of settings."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _from_text(cls, value: Any, info: ValidationInfo) -> Any:
        """The environment and --set give text: lists are separated by commas, mappings are YAML."""
        kind = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, str) and get_origin(kind) is list:
            return [part.strip() for part in value.split(",") if part.strip()]
        if isinstance(value, str) and get_origin(kind) is dict:
            try:
                return yaml.safe_load(value)
            except yaml.YAMLError:
                raise ValueError(
                    "write it as YAML, {name: value, …}, a value with a special character in quotes"
                ) from None
        return value
