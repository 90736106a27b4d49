#!/usr/bin/env python3
"""Spearman's rank correlation of rankings with the first one, layer by layer, as a Markdown table.

  rank_correlation.py channel-FI.h5 l2-norm.h5 …    ranking files of `sentinelnn rank` for one network
"""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import numpy as np
from scipy import stats


def layers(path: str) -> dict[str, np.ndarray]:
    """Scores of every layer, in execution order."""
    with h5py.File(path) as file:
        (method,) = file["importance"].values()
        order = sorted(method, key=lambda name: method[name].attrs["index"])
        return {name: method[name]["scores"][:] for name in order}


def main(first: str, *others: str) -> None:
    reference, rankings = layers(first), {Path(path).stem: layers(path) for path in others}
    print(f"| layer | channels | {' | '.join(rankings)} |")
    print("|---|---|" + "---|" * len(rankings))
    columns: dict[str, list[float]] = {name: [] for name in rankings}
    for layer, scores in reference.items():
        for name, ranking in rankings.items():
            columns[name].append(float(stats.spearmanr(scores, ranking[layer]).statistic))
        row = " | ".join(f"{values[-1]:.2f}" for values in columns.values())
        print(f"| {layer} | {len(scores)} | {row} |")
    if len(reference) > 1:
        means = " | ".join(f"{np.nanmean(values):.2f}" for values in columns.values())
        print(f"| mean | | {means} |")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
