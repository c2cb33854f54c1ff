"""The truth of a run: records of cycles, what was asked, the ledger of one-off costs, and where they lie."""

from __future__ import annotations

from alharness.records.doubts import DOUBTS, doubts
from alharness.records.facts import RunFacts, SpecFacts
from alharness.records.folder import RunFolder, keep_conformance, read_conformance
from alharness.records.ledger import Ledger, LedgerEntry, each_once
from alharness.records.metrics import METRICS
from alharness.records.proof import CURE, cycles_of
from alharness.records.query_log import INITIAL, QueryLog
from alharness.records.reader import read_run, read_runs, run_folders
from alharness.records.records import (
    AnnotationFigures,
    CycleRecord,
    FitFigures,
    Metric,
    QueryFigures,
    RecordFile,
    StopSetFigures,
    TestFigures,
    Times,
    append_record,
    read_records,
    timed_selections,
)
from alharness.records.runs import Run

__all__ = [
    "CURE",
    "DOUBTS",
    "INITIAL",
    "METRICS",
    "AnnotationFigures",
    "CycleRecord",
    "FitFigures",
    "Ledger",
    "LedgerEntry",
    "Metric",
    "QueryFigures",
    "QueryLog",
    "RecordFile",
    "Run",
    "RunFacts",
    "RunFolder",
    "SpecFacts",
    "StopSetFigures",
    "TestFigures",
    "Times",
    "append_record",
    "cycles_of",
    "doubts",
    "each_once",
    "keep_conformance",
    "read_conformance",
    "read_records",
    "read_run",
    "read_runs",
    "run_folders",
    "timed_selections",
]
