"""Columns of a result file's tables (HDF5, schema versions 1 and 2).

The schema is documented in include/sentinel/store/schema.hpp; the analysis knows nothing else of
the program.
"""

from __future__ import annotations

import numpy as np

RESULT, RANKING = "sentinelnn-result", "sentinelnn-ranking"
FACTORS = "sentinelnn-vulnerability"
NEWEST = {RESULT: 2, RANKING: 1, FACTORS: 1}  # versions that are known
NOT_KNOWN = 2**32 - 1  # a count that a file of schema 1 does not tell
NOT_TOLD = 255  # outcome of a fault that all images see, or that an earlier version wrote

# Members a reader may rely on; for strings the length is the writer's choice.
TRIAL = np.dtype(
    [
        ("point", "u4"),
        ("id", "u8"),
        ("model", "u4"),
        ("stage", "u1"),
        ("stratum", "i4"),
        ("probability", "f8"),
        ("block", "i4"),
        ("n_faults", "u4"),
        ("first_node", "i4"),
        ("images", "u4"),
        ("correct", "u4"),
        ("top5", "u4"),
        ("masked", "u4"),
        ("sdc_noncritical", "u4"),
        ("sdc_critical", "u4"),
        ("due", "u4"),
        ("correct_argmax", "u4"),
        ("faults_masked", "u4"),
        ("words_wrong", "u4"),
        ("words_flagged", "u4"),
        ("faults_stored", "u1"),
        ("session", "u4"),
        ("audited", "u1"),
        ("path", "u1"),
        ("wall_us", "u4"),
        ("rank", "u4"),
    ]
)
FAULT = np.dtype(
    [
        ("kind", "u1"),
        ("tensor", "u4"),
        ("element", "u8"),
        ("word_bits", "u1"),
        ("bit", "u1"),
        ("before", "u8"),
        ("after", "u8"),
        ("image", "i4"),
        ("effect", "u1"),
        ("length", "u1"),
    ]
)
ESTIMATE = np.dtype(
    [
        ("point", "u4"),
        ("model", "i4"),
        ("against", "i4"),
        ("quantity", "S32"),
        ("estimate", "f8"),
        ("lower", "f8"),
        ("upper", "f8"),
        ("confidence", "f8"),
        ("method", "S32"),
        ("trials", "u8"),
    ]
)
AUDIT = np.dtype(
    [
        ("point", "u4"),
        ("id", "u8"),
        ("model", "u4"),
        ("images", "u4"),
        ("mismatches", "u4"),
        ("near_ties", "u4"),
        ("correct", "u4"),
        ("top5", "u4"),
        ("masked", "u4"),
        ("sdc_noncritical", "u4"),
        ("sdc_critical", "u4"),
        ("due", "u4"),
        ("correct_argmax", "u4"),
        ("deviation", "f8"),
    ]
)
SESSION = np.dtype(
    [
        ("number", "u4"),
        ("started", "f8"),
        ("ended", "f8"),
        ("ranks", "u4"),
        ("host", "S64"),
        ("new_trials", "u8"),
        ("info", "S1024"),
    ]
)
POINT = np.dtype(
    [
        ("id", "u4"),
        ("estimand", "S32"),
        ("fault_model", "S32"),
        ("ber", "f8"),
        ("trials", "u8"),
        ("models", "S256"),
        ("effect", "S64"),
        ("shape", "S64"),
        ("target", "S64"),
        ("selection", "S256"),
    ]
)
TENSOR = np.dtype(
    [
        ("name", "S128"),
        ("kind", "u1"),
        ("elements", "u8"),
        ("originals", "u8"),
        ("word_bits", "u1"),
        ("layout", "S64"),
    ]
)
NODE = np.dtype([("name", "S128"), ("op", "S32"), ("macs", "i8"), ("parameters", "i8")])

# The design: rows of /design/plans, /design/strata and /design/rounds.
PLAN = np.dtype(
    [
        ("point", "u4"),
        ("sampling", "S16"),
        ("stop_rule", "S128"),
        ("half_width", "f8"),
        ("guaranteed", "u1"),
        ("first", "u8"),
        ("used", "u8"),
        ("reached", "u1"),
    ]
)
STRATUM = np.dtype(
    [("point", "u4"), ("stratum", "i4"), ("name", "S64"), ("weight", "f8"), ("cost", "f8")]
)
# The shares of networks after the first, in plans whose strata have shares by network.
SHARE = np.dtype([("point", "u4"), ("model", "u4"), ("stratum", "i4"), ("weight", "f8")])
ROUND = np.dtype(
    [
        ("point", "u4"),
        ("round", "u4"),
        ("stage", "u1"),
        ("first", "u8"),
        ("trials", "u8"),
        ("stratum", "i4"),
        ("probability", "f8"),
        ("allocated", "u8"),
    ]
)
# Rows of /design/centres, in files whose sequential plans estimate the outcomes' shares together.
CENTRE = np.dtype(
    [
        ("point", "u4"),
        ("round", "u4"),
        ("model", "i4"),
        ("masked", "f8"),
        ("sdc_noncritical", "f8"),
        ("sdc_critical", "f8"),
        ("due", "f8"),
    ]
)

# Rows of /design/pairing, in files of several models with faults in common.
PAIRING = np.dtype([("point", "u4"), ("model", "u4"), ("shared", "f8")])

# Columns that tables of schema 1 lack, by the table's name, and what they are read as.
SINCE_2: dict[str, dict[str, int | str]] = {
    "trials": {"faults_masked": 0, "words_wrong": NOT_KNOWN, "words_flagged": NOT_KNOWN}
    | {"faults_stored": 1},
    "sites": {"image": -1, "effect": 0, "length": 1},
    "points": {"effect": "flip", "shape": "bit", "target": "weight", "selection": ""},
    "tensors": {"layout": "fp32"},
}

# Columns that a table may lack, and what they are then.
OPTIONAL: dict[str, dict[str, int | str]] = {
    "estimates": {"stratum": -1},
    "points": {"lifetime": ""},
    "sites": {"outcome": NOT_TOLD},
}

# Kinds of NumPy types that may stand for the one expected.
KINDS = {"S": "SO", "u": "u", "i": "ui", "f": "f"}

# `kind` of a tensor and of a fault in it, by number.
STORED = ("weight", "bias", "bn", "bound", "scale", "check")
OUTPUTS = ("activation", "post", "output")  # of nodes
CLASSES = (*STORED, *OUTPUTS)

MODEL_NUMBERS = ("parameters", "macs", "memory_bytes", "images", "correct", "top5")
MEMORY = ("stored_bits", "bits_per_weight")  # 0: the file does not tell
# What a trial found, by the fast path in /trials, by the reference path in /audit.
FOUND = (
    *("correct", "top5", "masked", "sdc_noncritical", "sdc_critical", "due"),
    "correct_argmax",
)
LISTED = "listed"  # estimand of a list, method of its estimates
OUTCOMES = ("masked", "sdc_noncritical", "sdc_critical", "due")
