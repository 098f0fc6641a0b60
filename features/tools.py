"""Tool profiles: what a tool was bought for, and how its use, silence and opportunity are judged."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from features.events import Kind, invalid_item

SHIPPED = Path(__file__).with_name("tools.yaml")


class ToolProfile(BaseModel):
    """How one tool is judged. `silence_days` is the W of the label (features.labels); `licence_price` is of one a month."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    title: str
    high_value_workflows: dict[str, str] = {}
    meaningful_kinds: tuple[Kind, ...]
    any_workflow: bool
    opportunity_kinds: tuple[Kind, ...]
    quick_close_seconds: Annotated[float, Field(gt=0)]
    silence_days: Annotated[int, Field(ge=1, le=365)]
    licence_price: Annotated[float | None, Field(ge=0, allow_inf_nan=False)] = None
    licence_currency: Annotated[str | None, Field(pattern=r"^[A-Z]{3}$")] = None

    @property
    def feature_hash(self) -> str:
        """Identifies what features of this tool's seats mean: everything here that changes their values, no titles."""
        names = (self.high_value_workflows, self.meaningful_kinds, self.opportunity_kinds)
        said = [sorted(map(str, some)) for some in names]
        return hashlib.sha256(f"{said} {self.any_workflow} {self.quick_close_seconds}".encode()).hexdigest()[:8]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.any_workflow and not self.high_value_workflows:
            raise ValueError("high_value_workflows: expected at least one workflow, or any_workflow: true")
        if len(self.high_value_workflows) > 5:
            raise ValueError(f"high_value_workflows: expected at most five, came {len(self.high_value_workflows)}")
        return self


def load_tools(*overrides: Path) -> dict[str, ToolProfile]:
    """The shipped profiles, overridden by each existing file in turn. Raises ValueError naming file, tool and field."""
    profiles: dict[str, ToolProfile] = {}
    defaults: Mapping[str, object] = {}
    for path in (SHIPPED, *(path for path in overrides if path.exists())):
        try:
            document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
        if not isinstance(document, dict):
            raise ValueError(f"{path}: expected a mapping with 'tools', came {type(document).__name__}")
        own_defaults, tools = (document.get(name) or {} for name in ("defaults", "tools"))
        if not isinstance(own_defaults, dict) or not isinstance(tools, dict):
            raise ValueError(f"{path}: expected 'defaults' and 'tools' to be mappings")
        defaults = {**defaults, **own_defaults}
        for tool, fields in tools.items():
            if not isinstance(fields, dict | None):
                raise ValueError(f"{path}: tool {tool}: expected a mapping, came {type(fields).__name__}")
            try:
                profiles[tool] = ToolProfile.model_validate({**defaults, **(fields or {})})
            except ValidationError as error:
                raise ValueError(f"{path}: tool {tool}: {invalid_item(error)}") from None
    return profiles
