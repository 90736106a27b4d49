#!/usr/bin/env python3
"""Spearman's rank correlation of rankings with the first one, layer by layer, as a Markdown table.

rank_correlation.py channel-FI.h5 l2-norm.h5 …    ranking files of `rank` for one network
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "analysis"))

import agreement  # noqa: E402
import pandas as pd  # noqa: E402
import rankings  # noqa: E402


def main(paths: list[Path]) -> None:
    table = pd.concat([rankings.read_ranking(path).assign(method=path.stem) for path in paths])
    reference = paths[0].stem
    correlation = agreement.rank_correlation(table, reference)
    channels = table[table["method"] == reference].groupby("layer").size()
    print(f"| layer | channels | {' | '.join(correlation.columns)} |")
    print("|---|---|" + "---|" * len(correlation.columns))
    for layer, values in correlation.iterrows():
        print(f"| {layer} | {channels[layer]} | {_cells(values)} |")
    if len(correlation) > 1:
        print(f"| mean | | {_cells(correlation.mean())} |")


def _cells(values: pd.Series) -> str:
    return " | ".join(f"{value:.2f}" for value in values)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main([Path(name) for name in sys.argv[1:]])
