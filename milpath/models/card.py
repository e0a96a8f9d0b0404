"""The card of a checkpoint: plain values that describe its network, target and data."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from milpath.models.familiarity import FamiliarSlides, familiar_of
from milpath.records.data_warning import SYNTHETIC, require_warning
from milpath.records.plain_values import brief, require_plain
from milpath.targets import target_names, target_of
from milpath.targets.set_parts import fitted_parts
from milpath.targets.target import require_class_names

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Card:
    """The description of a network in its checkpoint; plain values only.

    Attributes:
        network: `{"name": class in milpath.models or a user-defined class, "arguments": {...}}`.
        class_names: Names of the classes in the order of their indices; of the predicted quantities without classes.
        task: Name of the target: "binary", "nominal", "ordinal", "regression" or a user-defined one.
        threshold: Operating point of a binary task, chosen on the validation split.
        temperature: Divides the logits of predictions; fitted on the validation split.
        defer_below: A bag is deferred to a person if its largest class probability is below this; 0 defers none.
        tiling: How slides are cut into tiles: method, num_tiles, tile_size, level, microns_per_pixel.
        encoder: For a network trained on features, the card of the encoder that made them, as far as it is known: name,
            weights_sha256, embedding_dim, output, tile_size, microns_per_pixel; empty for a network of tiles.
        target_state: Options of a target without classes and what it fitted on the training split; otherwise empty.
        conformal: Quantiles of the prediction sets, fitted on the validation split (`milpath.metrics.conformal.Conformal`);
            empty without sets.
        warning: What the training data say against themselves, such as "synthetic slides: says nothing about real tissue";
            it stands beside every answer, and every bag is deferred to a person. Empty for tissue.
        familiarity: Tensors and plain values of the model of familiar slides, fitted on the training split and compared with
            the validation split (`milpath.models.familiarity.FamiliarSlides`); empty without one.
        data: The data configuration of the run; `_target_` is its only key that starts with an underscore.
    """

    network: Mapping[str, Any]
    class_names: tuple[str, ...]
    task: str
    threshold: float = 0.5
    temperature: float = 1.0
    defer_below: float = 0.0
    tiling: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    encoder: Mapping[str, Any] = field(default_factory=dict)
    target_state: Mapping[str, Any] = field(default_factory=dict)
    conformal: Mapping[str, Any] = field(default_factory=dict)
    warning: str = ""
    familiarity: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def familiar(self) -> FamiliarSlides | None:
        """The model of familiar slides; `None` for a checkpoint without one."""
        return familiar_of(self.familiarity)


def card_to_dict(card: Card) -> dict[str, Any]:
    """Return the card as stored in a file."""
    content = {"format_version": FORMAT_VERSION} | asdict(card) | {"class_names": list(card.class_names)}
    for name in ("target_state", "conformal", "warning", "familiarity"):
        if not content[name]:
            del content[name]  # the file of a card without them stays as it was before they existed
    return content


def plain_card(card: Card) -> dict[str, Any]:
    """Return the card as plain values, with the numbers of its model of familiar slides instead of the tensors."""
    content, model = asdict(replace(card, familiarity={})), card.familiar
    if model is None:
        del content["familiarity"]
        return content
    told = {"num_bags": model.num_bags, "num_validation_bags": len(model.scores), "num_groups": model.num_groups}
    return content | {"familiarity": told | {"refer": model.refer, "bound": model.bound}}


def answering_card(card: Card) -> dict[str, Any]:
    """Return the card without its network and data: what is needed to evaluate the answers of the network."""
    return card_to_dict(replace(card, network={}, tiling={}, data={}, encoder={}, familiarity={}))


def card_from_dict(content: Mapping[str, Any]) -> Card:
    """Return the card stored in a file.

    Raises:
        ValueError: If the format has another version, a field is missing or invalid, or a value is not plain: a card is
            untrusted input, and none of its values may have a side effect.
    """
    version = content.get("format_version")
    if version != FORMAT_VERSION:
        raise ValueError(
            f"the card has format {brief(version)}, this version of milpath reads {FORMAT_VERSION}; update milpath"
        )
    if missing := [name for name in ("network", "class_names", "task") if name not in content]:
        raise ValueError(f"the card lacks {', '.join(missing)}")
    known = {item.name for item in fields(Card)}
    values = {name: _plain_field(name, value) for name, value in content.items() if name in known}
    names = values["class_names"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"class_names of the card must be a list of names, not {brief(names)}")
    if "warning" not in values and _names_drawn_data(values.get("data")):
        values["warning"] = SYNTHETIC
    card = Card(**values | {"class_names": tuple(names)})
    require_sound(card)
    return card


def features_of(card: Card) -> str:
    """Return the type to which files of features are rounded, as in the training: "float16" or "float32"."""
    return "float16" if card.data.get("dtype") == "float16" else "float32"


def _names_drawn_data(data: Any) -> bool:
    """Return whether a card of milpath 0.1.0, which has no warning, names the drawn slides of milpath as its data."""
    return isinstance(data, Mapping) and data.get("_target_") == "milpath.data.SyntheticBags"


def _plain_field(name: str, value: Any) -> Any:
    """Return a copy of a field; `_target_` names the data set, no other key may start with an underscore."""
    if name == "familiarity":
        return FamiliarSlides.of_state(value).state() if value else {}
    return require_plain(value, f"{name} of the card", allowed=("_target_",) if name == "data" else ())


def require_sound(card: Card) -> None:
    """Refuse a card with invalid values."""
    for name in ("network", "tiling", "data", "encoder", "target_state", "conformal", "familiarity"):
        if not isinstance(getattr(card, name), Mapping):
            raise ValueError(f"{name} of the card must be a mapping, not {brief(getattr(card, name))}")
        _plain_field(name, dict(getattr(card, name)))
    if card.task not in target_names():
        raise ValueError(
            f"task {brief(card.task)} of the card is not one of {', '.join(target_names())}; register your own target "
            "first: register_target(MyTarget()) in Python, parts=[my_parts.MyTarget] in a command"
        )
    for name, lowest, highest in (("threshold", 0, 1), ("temperature", 0, math.inf), ("defer_below", 0, 1)):
        value = getattr(card, name)
        if (
            not isinstance(value, int | float)
            or not (lowest <= value <= highest and math.isfinite(value))
            or (name == "temperature" and not value)
        ):
            raise ValueError(f"{name} of the card must be a number in [{lowest}, {highest}], not {brief(value)}")
    require_warning(card.warning, "warning of the card")
    require_class_names(card.class_names)
    target_of(card)
    fitted_parts(card)
    arguments = card.network.get("arguments")
    require_outputs(card, arguments.get("num_outputs") if isinstance(arguments, Mapping) else None)


def require_outputs(card: Card, found: Any) -> None:
    """Refuse a number of outputs that does not fit the classes; `None` means not known yet."""
    needed = target_of(card).num_outputs(len(card.class_names))
    if found is not None and found != needed:
        raise ValueError(
            f"the network has {brief(found)} outputs, but a {card.task} task of {len(card.class_names)} classes needs "
            f"{needed}; give class_names and task"
        )
