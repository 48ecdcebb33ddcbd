"""A run folder in, the text of a card for it, and the same folder on the Hugging Face hub out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import CouplingKitError, DataError, first_line
from ..files import is_own_folder
from ..metrics.quantities import shown_in
from ..typed_files import read_json
from ..version import __version__

__all__ = ["model_card", "push_to_hub"]

PAPER = "https://openreview.net/forum?id=WQYHbr36Fo"


def model_card(folder: str | Path) -> str:
    """Return the text of a card (README.md on the hub) for a run of `measure`, `train` or `train-pair`.

    It states what was measured on what, with intervals, and what is not known; a trained network's recipe is quoted.

    Raises:
        DataError: the folder is no run.
    """
    folder = Path(folder)
    recipe, summary = folder / "recipe.toml", folder / "summary.json"
    if not folder.is_dir() or not (recipe.is_file() or summary.is_file()):
        raise DataError(f"run {folder} is no folder of `measure`, `train` or `train-pair`; give one.")
    head = ["---", "library_name: couplingkit", "tags:", "- self-supervised-learning", "- dense-features", "---", ""]
    lines = [*head, f"# {folder.resolve().name}", "", f"Made by couplingkit {__version__}.", ""]
    if recipe.is_file():
        text = recipe.read_text(encoding="utf-8").rstrip()
        lines += ["## How it was trained", "", "```toml", text, "```", ""]
        lines += ["Load it: `couplingkit.load_backbone(FOLDER)`, where FOLDER is a copy of this repository.", ""]
    if summary.is_file():
        lines += _measured(read_json(summary, dict, "summary"))
    lines += [
        "## What these numbers do not say",
        "",
        "Intervals are over photos, of these networks; what is said of a method needs several training seeds. A rate "
        "at or below 1 does not show decoupling: look at specificity, leak and displacement together.",
        f"The measure: {PAPER}",
        "",
    ]
    return "\n".join(lines)


def _measured(document: dict[str, Any]) -> list[str]:
    models = document.get("models")
    if not isinstance(models, list) or not all(isinstance(one, dict) and "statistics" in one for one in models):
        return []
    quantities = shown_in("table")
    lines = ["## Coupling", "", f"| model | {' | '.join(one.name for one in quantities)} | probes |"]
    lines.append(f"| --- |{' --- |' * (len(quantities) + 1)}")
    for model in models:
        cells = [_cell(model["statistics"].get(one.name)) for one in quantities]
        probes = f"{model['probes']['measured']}/{model['probes']['made']}"
        lines.append(f"| {model['name']} | {' | '.join(cells)} | {probes} |")
    return [*lines, ""]


def _cell(entry: dict[str, float | None] | None) -> str:
    if entry is None or entry["value"] is None:
        return "-"
    bounds = "" if entry["low"] is None or entry["high"] is None else f" [{entry['low']:z.3f}, {entry['high']:z.3f}]"
    return f"{entry['value']:z.3f}{bounds}"


def push_to_hub(folder: str | Path, repository: str, *, private: bool = True, token: str | None = None) -> str:
    """Upload a run folder, with its card, to a repository of the Hugging Face hub, which is made where it is not there.

    Args:
        folder: that a command wrote; nothing else lies in it.
        repository: ORGANISATION/NAME.
        private: whether only its owner sees it.
        token: of the hub; by default that of `hf auth login`.

    Returns:
        The address.

    Raises:
        DataError: the folder is no run, or holds what couplingkit did not write.
        CouplingKitError: the hub cannot be reached, or refuses.
    """
    folder = Path(folder)
    card = model_card(folder)
    if not is_own_folder(folder) and not (folder / "recipe.toml").is_file():
        raise DataError(
            f"run {folder} holds what couplingkit did not write, and is not uploaded; copy the run elsewhere."
        )
    from huggingface_hub import HfApi

    hub = HfApi(token=token)
    try:
        address = str(hub.create_repo(repository, private=private, exist_ok=True))
        hub.upload_folder(repo_id=repository, folder_path=folder, ignore_patterns=["README.md"])
        hub.upload_file(repo_id=repository, path_in_repo="README.md", path_or_fileobj=card.encode())
    # The hub's library raises errors of its own, of its transport and of the system, without a common base.
    except Exception as error:
        raise CouplingKitError(
            f"{folder} could not be uploaded to {repository} ({first_line(error)}); is there a network, is the name "
            "ORGANISATION/NAME, and did you log in (`hf auth login`)?"
        ) from error
    return address
