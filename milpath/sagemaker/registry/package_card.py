"""The model card of a package in the form that SageMaker shows, from the card and the results of a run."""

import json
from collections.abc import Mapping
from typing import Any

# Limits of the schema of a model card.
_MAX_CONTENT, _MAX_NAME, _MAX_VALUE, _MAX_DETAIL, _MAX_TEXT = 100_000, 255, 255, 1024, 2048
# Fields of the card that say what is answered and how it was decided; the network is told by the settings.
_TOLD = (
    "task", "class_names", "threshold", "temperature", "defer_below", "tiling", "encoder", "conformal", "familiarity",
)  # fmt: skip


def card_content(
    card: Mapping[str, Any],
    metrics: Mapping[str, Mapping[str, float | None]],
    identity: Mapping[str, Any],
    *,
    creator: str,
    archive: str,
    run: str,
) -> str:
    """Return the content of a model card.

    It holds numbers and settings of the whole run, and no row, name or picture of a slide or patient.

    Args:
        card: The card of the network as plain values, `card.json` of an archive.
        metrics: Split to metric to value, `metrics.json` of the run; `None` is a metric that is not defined there.
        identity: Settings and digests of the data, `identity.json` of the run.
        creator: Who made the model, such as the version of this library.
        archive: Address of the archive in S3.
        run: Where the run was read from.

    Raises:
        ValueError: If it exceeds what the service takes.

    References:
        Amazon SageMaker AI Developer Guide, model package model card schema.
    """
    settings = [
        {"name": name[:_MAX_NAME], "value": _brief(value, _MAX_VALUE)}
        for name, value in sorted(identity["settings"].items())
    ]
    digests = {name: str(value) for name, value in identity["contents"].items()}
    content = {
        "model_overview": {"model_creator": creator, "model_artifact": [archive]},
        "intended_uses": {"purpose_of_model": _purpose(card)[:_MAX_TEXT], "risk_rating": "Unknown"},
        "training_details": {
            "training_observations": _brief(f"data: {json.dumps(digests)}", _MAX_DETAIL),
            "training_job_details": {"user_provided_hyper_parameters": settings},
        },
        "evaluation_details": [_evaluation(split, values, run) for split, values in metrics.items()],
        "additional_information": {
            "caveats_and_recommendations": _caveats(card),
            "custom_details": {name: _brief(card[name], _MAX_DETAIL) for name in _TOLD if card.get(name) is not None}
            | digests
            | {"run_identity_sha256": str(identity["digest"])},
        },
    }
    # One line: the service takes no line breaks here.
    text = json.dumps(content, ensure_ascii=False, allow_nan=False)
    if len(text) > _MAX_CONTENT:
        raise ValueError(f"the model card has {len(text):,} characters; SageMaker takes at most {_MAX_CONTENT:,}")
    return text


def _purpose(card: Mapping[str, Any]) -> str:
    """Return what the network answers."""
    names = ", ".join(card["class_names"])
    network = card.get("network", {}).get("name", "a network")
    return f"{network} answers {card['task']} ({names}) for a bag of tiles or features of tissue"


def _caveats(card: Mapping[str, Any]) -> str:
    """Return what speaks against the model."""
    warning = str(card.get("warning") or "")
    return " ".join(filter(None, ("For research use only.", warning and f"Trained on {warning}.")))[:_MAX_TEXT]


def _evaluation(split: str, values: Mapping[str, float | None], run: str) -> dict[str, Any]:
    """Return the metrics of a split; one that is not defined there says so."""
    data = [
        {"name": name[:_MAX_NAME], "type": "string", "value": "not defined"}
        if value is None
        else {"name": name[:_MAX_NAME], "type": "number", "value": value}
        for name, value in values.items()
    ]
    return {
        "name": split,
        "evaluation_observation": _brief(f"the best checkpoint on the {split} split, from {run}", _MAX_DETAIL),
        "metric_groups": [{"name": split, "metric_data": data}],
    }


def _brief(value: Any, length: int) -> str:
    """Return a value as text of one line, cut off where the schema ends."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= length else f"{text[: length - 1]}…"
