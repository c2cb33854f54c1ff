"""The truth of a run: records of cycles, what was asked, the ledger of one-off costs, and where they lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alharness.lazily import from_files, homes_in

if TYPE_CHECKING:
    from alharness.artefacts.ledger import Ledger as Ledger
    from alharness.artefacts.ledger import LedgerEntry as LedgerEntry
    from alharness.artefacts.ledger import each_once as each_once
    from alharness.records.doubtful import DOUBTS as DOUBTS
    from alharness.records.doubtful import doubts as doubts
    from alharness.records.facts import RunFacts as RunFacts
    from alharness.records.facts import SpecFacts as SpecFacts
    from alharness.records.folder import RunFolder as RunFolder
    from alharness.records.folder import keep_conformance as keep_conformance
    from alharness.records.folder import read_conformance as read_conformance
    from alharness.records.metrics import METRICS as METRICS
    from alharness.records.proof import CURE as CURE
    from alharness.records.proof import cycles_of as cycles_of
    from alharness.records.query_log import INITIAL as INITIAL
    from alharness.records.query_log import QueryLog as QueryLog
    from alharness.records.reader import read_run as read_run
    from alharness.records.reader import read_runs as read_runs
    from alharness.records.reader import run_folders as run_folders
    from alharness.records.records import AnnotationFigures as AnnotationFigures
    from alharness.records.records import CycleRecord as CycleRecord
    from alharness.records.records import FitFigures as FitFigures
    from alharness.records.records import Metric as Metric
    from alharness.records.records import QueryFigures as QueryFigures
    from alharness.records.records import RecordFile as RecordFile
    from alharness.records.records import StopSetFigures as StopSetFigures
    from alharness.records.records import TestFigures as TestFigures
    from alharness.records.records import Times as Times
    from alharness.records.records import append_record as append_record
    from alharness.records.records import read_records as read_records
    from alharness.records.records import timed_selections as timed_selections
    from alharness.records.runs import Run as Run

__getattr__ = from_files(__name__, homes_in(__file__))
