"""Vulnerability factors: read, compared with injected faults, shown on a page."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import LAYERS, Sample, outcome
from factors import check_against, read_factors
from hdf5 import ResultError
from results import Result
from test_report import program

NETWORK = "a" * 64
LVF = {"stem": 0.30, "layer1.0.conv1": 0.20, "linear": 0.05}


def write_factors(path: Path, **attributes: object) -> Path:
    """Two of four channels of each layer, the mean of which is the layer's factor."""
    told = {
        "schema": "sentinelnn-vulnerability", "schema_version": 1, "factors": "weights",
        "units": "channel", "search": "exhaustive", "sampled": np.uint8(1), "sample": 0.5,
        "limited": np.uint8(0), "images": 64, "architecture": "resnet20", "dataset": "cifar10",
        "model_sha256": NETWORK,
    }  # fmt: skip
    for name in ("mvf", "mvf_unweighted"):
        told |= {f"{name}_lo": 0.2, f"{name}_hi": 0.25, f"{name}_error": 0.01}
    with h5py.File(path, "w") as file:
        file.attrs.update(told | attributes)
        for index, (layer, factor) in enumerate(LVF.items()):
            group = file.create_group(f"layers/{layer}")
            group.attrs.update(index=np.uint32(index), rows=4, positions=1, sites=1280.0)
            group.attrs.update(lvf_lo=factor, lvf_hi=factor + 0.01, lvf_error=0.001)
            group["row"], group["position"] = np.array([0, 3]), np.array([-1, -1])
            group["vf_lo"] = factor + np.array([-0.05, 0.05])
            group["vf_hi"] = factor + np.array([-0.04, 0.06])
    return path


@pytest.fixture
def factors(tmp_path: Path) -> Path:
    return write_factors(tmp_path / "factors.h5")


def single_faults(path: Path, network: str = NETWORK, target: str = "weight") -> Path:
    """Forty single faults in each layer, of which shares fail; most are those of the factors."""
    shares = {"stem": 40, "layer1.0.conv1": 20, "linear": 5}  # of 100 images
    trials, faults = [], []
    for tensor, layer in enumerate(LAYERS):
        for _ in range(40):
            trials.append(outcome(0, len(trials), 0, 0, shares[layer]))
            faults.append([(tensor, 1, 30)])
    sample = Sample(
        models=("unprotected",), points=(("exact:1", 0.0, 120),), trials=trials, faults=faults,
        networks=(network,), estimands=("T1",), kind_of_fault={"target": target},
    )  # fmt: skip
    return sample.write(path)


def test_a_file_is_read_layer_by_layer_in_its_order(factors):
    found = read_factors(factors)
    assert list(found.layers["layer"]) == list(LVF)
    assert list(found.units["row"]) == [0, 3] * 3
    stem = found.layers.iloc[0]
    student = 12.7062  # of two channels
    assert stem["lower"] == pytest.approx(0.30 - student * 0.001, abs=1e-6)
    assert stem["upper"] == pytest.approx(0.31 + student * 0.001, abs=1e-6)


def test_factors_stand_beside_injected_shares(factors, tmp_path):
    with Result(single_faults(tmp_path / "t1.h5")) as result:
        check = check_against(read_factors(factors), result)
    table = check.table.set_index("layer")
    assert table["estimate"].to_dict() == pytest.approx(
        {"stem": 0.40, "layer1.0.conv1": 0.20, "linear": 0.05}
    )
    assert check.error == pytest.approx(0.10 / 3)
    assert table["meets"].to_dict() == {"stem": 0, "layer1.0.conv1": 1, "linear": 1}
    assert check.correlation[0] == 1
    assert check.whole[0] == pytest.approx(0.65 / 3)


@pytest.mark.parametrize(
    ("told", "network", "target", "reason"),
    [
        ({}, "b" * 64, "weight", "no trials of the network of factors.h5"),
        ({}, NETWORK, "activation", "--fault-target weight"),
        ({"factors": "outputs"}, NETWORK, "weight", "--fault-target activation"),
        ({"factors": "operands"}, NETWORK, "weight", "operands cannot be injected"),
    ],
)
def test_a_result_of_something_else_is_refused(tmp_path, told, network, target, reason):
    factors = read_factors(write_factors(tmp_path / "factors.h5", **told))
    with Result(single_faults(tmp_path / "t1.h5", network, target)) as result:
        with pytest.raises(ResultError, match=reason):
            check_against(factors, result)


def test_several_faults_a_trial_check_nothing(factors, paired):
    with h5py.File(paired, "r+") as file:
        parts = file["provenance"].require_group("fingerprint").attrs
        parts["model 0 unprotected"] = NETWORK
    with Result(paired) as result, pytest.raises(ResultError, match="--single-bit"):
        check_against(read_factors(factors), result)


def test_the_page_shows_factors_and_the_check(factors, tmp_path):
    output, against = tmp_path / "page.html", single_faults(tmp_path / "t1.h5")
    alone = program("report.py", factors, "-o", output)
    assert alone.returncode == 0, alone.stderr
    page = output.read_text()
    assert "unchecked" in page and page.count("<img") == 2 and "Injected" not in page
    checked = program("report.py", factors, "--against", against, "-o", output)
    assert checked.returncode == 0, checked.stderr
    page = output.read_text()
    assert "Mean absolute error of the layers&#39; factors: 3.33\u00a0%" in page
    assert "the intervals of 2 of 3 layers meet" in page and "+10.00" not in page
    assert "−10.00" in page


def test_unknown_errors_have_no_interval(tmp_path):
    path = write_factors(tmp_path / "factors.h5", mvf_error=np.nan)
    with h5py.File(path, "r+") as file:
        file["layers/stem"].attrs["lvf_error"] = np.nan
    against = single_faults(tmp_path / "t1.h5")
    done = program("report.py", path, "--against", against, "-o", tmp_path / "page.html")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "page.html").read_text()
    assert "(no interval)" in page and "the intervals of 2 of 2 layers meet" in page


def test_wrong_combinations_are_usage_errors(factors, paired, tmp_path):
    output = tmp_path / "page.html"
    for words in ([paired, "--against", paired], [factors, "--rankings", factors]):
        done = program("report.py", *words, "-o", output)
        assert done.returncode == 64 and not output.exists(), done.stderr


def test_a_damaged_file_is_refused_in_one_line(factors, tmp_path):
    with h5py.File(factors, "r+") as file:
        del file["layers/stem"].attrs["sites"]
    done = program("report.py", factors, "-o", tmp_path / "page.html")
    assert done.returncode == 65 and done.stderr.count("\n") == 1
    assert "attribute sites is no number" in done.stderr
