"""The catalogue of interventions: what can be done for a seat, what it costs, and what we expect of it."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from features.decisions import NONE
from features.events import invalid_item

SHIPPED = Path(__file__).with_name("interventions.yaml")
# The shipped ones by name, for the features that count each; a test holds the two together. Others count in the total.
KINDS = (
    "in_context_guidance",
    "role_use_cases",
    "peer_champion",
    "leader_participation",
    "safe_practice",
    "guided_start",
    "refresher",
    "coach_call",
)


class FailureMode(StrEnum):
    """Why adoption stalls (design: diagnosis)."""

    ONE_SHOT_TRAINING = "one_shot_training"
    NO_ROLE_USE_CASES = "no_role_use_cases"
    LEADERSHIP_ABSENT = "leadership_absent"
    SURFACE_USE = "surface_use"
    SILENT_STRUGGLE = "silent_struggle"
    COMPLEXITY = "complexity"
    WRONG_METRIC = "wrong_metric"


# strict: YAML's `yes` and `"5"` are no numbers
Money = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
Effect = Annotated[float, Field(strict=True, ge=-1, le=1, allow_inf_nan=False)]


class Intervention(BaseModel):
    """An action that can be taken for a seat. Effects are changes in the probability of keeping it, in [-1, 1]."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    title: Annotated[str, Field(min_length=1)]
    channel: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    target: Literal["seat", "manager", "champion"]
    cost: Money
    capacity_per_day: Annotated[int, Field(strict=True, ge=0)] | None
    cooldown_days: Annotated[int, Field(strict=True, ge=0, le=365)]
    base_effect: Effect
    answers: dict[FailureMode, Effect]
    requires: tuple[Literal["manager", "champion", "role", "workflow"], ...] = ()
    minutes: Annotated[int, Field(strict=True, ge=1, le=1440)] | None = None  # of the time of whom it takes, by use

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.id == NONE and (self.cost or self.base_effect or self.answers or self.capacity_per_day is not None):
            raise ValueError("id: the intervention 'none' has no cost, effect, answers or capacity")
        return self


def load_interventions(path: Path) -> tuple[Intervention, ...]:
    """The catalogue in `path`, in its order, `none` among them. Raises ValueError naming the file, line and field."""
    try:
        text = path.read_text(encoding="utf-8")
        document = yaml.safe_load(text)
        root = yaml.compose(text)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict) or not isinstance(document.get("interventions"), list):
        raise ValueError(f"{path}: expected a mapping with a list 'interventions'")
    assert isinstance(root, yaml.MappingNode)
    _refuse_twice(root, path)
    strange = [key for key, _ in root.value if key.value != "interventions"]
    if strange:
        raise ValueError(
            f"{path}, line {_line(strange[0])}: {strange[0].value}: is not a field; expected 'interventions' alone"
        )
    ((_, nodes),) = root.value
    catalogue: dict[str, Intervention] = {}
    for entry, node in zip(document["interventions"], nodes.value, strict=True):
        try:
            intervention = Intervention.model_validate(entry)
        except ValidationError as error:
            line = _line(_blamed(node, error.errors()[0]["loc"]))
            raise ValueError(f"{path}, line {line}: {_whose(entry)}{invalid_item(error)}{_came(error)}") from None
        if intervention.id in catalogue:
            raise ValueError(f"{path}, line {_line(_blamed(node, ('id',)))}: id: {intervention.id!r} is there twice")
        catalogue[intervention.id] = intervention
    if NONE not in catalogue:
        raise ValueError(f"{path}: the intervention {NONE!r} is missing; it is always eligible")
    return tuple(catalogue.values())


def _came(error: ValidationError) -> str:
    came = error.errors()[0].get("input")
    return (
        f", came {came if not isinstance(came, str) else repr(came[:64])}"
        if isinstance(came, str | int | float | bool)
        else ""
    )


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _whose(entry: object) -> str:
    name = entry.get("id") if isinstance(entry, dict) else None
    return f"{name}: " if isinstance(name, str) and name.isidentifier() else ""


def _blamed(node: yaml.Node, location: Sequence[str | int]) -> yaml.Node:
    """The node that the location leads to, or the last one on the way that is there."""
    for part in location:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == str(part)]
            if not found:
                return node
            key, value = found[0]
            node = value if isinstance(value, yaml.MappingNode | yaml.SequenceNode) else key
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
        else:
            return node
    return node


def _refuse_twice(node: yaml.Node, path: Path) -> None:
    """YAML takes the last of two equal keys without a word; a limit must not be lost that way."""
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, yaml.Node] = {}
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                first = _line(seen[key.value])
                raise ValueError(f"{path}, line {_line(key)}: {key.value}: is there already on line {first}")
            seen[str(key.value)] = key
            _refuse_twice(value, path)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_twice(item, path)
