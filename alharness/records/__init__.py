"""The truth of a run: records of cycles, what was asked, the ledger of one-off costs, and where they lie."""

from __future__ import annotations

from alharness.records.doubts import DOUBTS, doubts
from alharness.records.folder import RunFolder, keep_conformance, read_conformance, run_folders
from alharness.records.ledger import Ledger, LedgerEntry, each_once
from alharness.records.proof import CURE, cycles_of
from alharness.records.query_log import INITIAL, QueryLog
from alharness.records.records import (
    AnnotationFigures,
    CycleRecord,
    FitFigures,
    QueryFigures,
    RecordFile,
    TestFigures,
    Times,
    append_record,
    read_records,
    timed_selections,
)

__all__ = [
    "CURE",
    "DOUBTS",
    "INITIAL",
    "AnnotationFigures",
    "CycleRecord",
    "FitFigures",
    "Ledger",
    "LedgerEntry",
    "QueryFigures",
    "QueryLog",
    "RecordFile",
    "RunFolder",
    "TestFigures",
    "Times",
    "append_record",
    "cycles_of",
    "doubts",
    "each_once",
    "keep_conformance",
    "read_conformance",
    "read_records",
    "run_folders",
    "timed_selections",
]
