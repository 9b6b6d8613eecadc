"""Results as a picture: `python -m benchmarks.picture RESULT.json [...]` draws docs/images/benchmark.svg.

One panel for each main case, a bar for each system: its time as a multiple of the reference's.
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.data import ROOT
from benchmarks.systems import OURS

IMAGE = ROOT / "docs" / "images" / "benchmark.svg"
LONGEST_BAR = 4.0
BEHIND_TEXT = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
"""So that the line of the reference does not cross figures."""
OUR_COLOUR, OTHER_COLOUR, TEXT_COLOUR = "#1f6feb", "#b8bfc8", "#57606a"


def draw(cases: list[dict[str, Any]], image: Path = IMAGE) -> None:
    """Draw the main cases among `cases` (see `report.record`) as SVG, and as PNG beside it."""
    panels = [case for case in cases if case["case"]["kind"] == "main"]
    if not panels:
        return
    # Text stays text, and the same figures give the same file.
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "benchmark", "font.family": "sans-serif"})
    tallest = max(len(panel["systems"]) for panel in panels)
    figure = Figure(figsize=(4.4 * len(panels) + 2.0, 0.42 * tallest + 1.5), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _draw_panel(axes, panel)
    figure.suptitle(
        f"TPC-H lineitem by l_orderkey into 64 Parquet files: time, less is better (bars end at {LONGEST_BAR:g}x)",
        fontsize=9.5,
    )
    image.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(image, metadata={"Date": None})
    figure.savefig(image.with_suffix(".png"), dpi=160)


def _draw_panel(axes: Axes, panel: dict[str, Any]) -> None:
    systems = panel["systems"]
    reference = next(each["label"] for each in systems if each["name"] == panel["reference"])
    for place, system in enumerate(systems):
        ratio = system["medianRatio"]
        colour = OUR_COLOUR if system["name"] == OURS else OTHER_COLOUR
        if ratio is not None:
            axes.barh(place, min(ratio, LONGEST_BAR), color=colour, height=0.68)
        text = system["outcome"] if ratio is None else f"{ratio:.2f}x" if ratio < LONGEST_BAR else f"{ratio:.0f}x ▸"
        axes.text(
            min(ratio or 0, LONGEST_BAR) + 0.06,
            place,
            text,
            va="center",
            fontsize=8.5,
            color=TEXT_COLOUR,
            bbox=BEHIND_TEXT,
        )
    axes.axvline(1, color=TEXT_COLOUR, linewidth=0.8, linestyle=(0, (2, 2)))
    axes.set_title(f"{panel['case']['shortTitle']}, relative to {reference}", fontsize=9, color=TEXT_COLOUR)
    axes.set_yticks(range(len(systems)), [system["label"] for system in systems], fontsize=8.5)
    axes.set_xlim(0, LONGEST_BAR + 0.8)
    axes.set_xticks([])
    axes.invert_yaxis()
    axes.tick_params(length=0)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)


if __name__ == "__main__":
    draw([case for name in sys.argv[1:] for case in json.loads(Path(name).read_text())["cases"]])
