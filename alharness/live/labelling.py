"""The page on which a person labels: what it shows of a session, and what it may do with it.

The session runs in the main thread; no other one asks it for a query. The threads of the page read what is
asked, and hand over answers while the session waits. An answer names the query that it is for: a page that
stood open for an hour answers nothing else.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from typing import Any

from alharness.engine.labelling import Asked, LabelSession
from alharness.errors import UserError
from alharness.live.server import LocalServer
from alharness.pictures.sheets import as_uint8, picture
from alharness.stopping import NamedRule, say

#: Kinds of image that a browser shows as they are, by their first bytes.
_SHOWN = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
}
#: Longest side of a picture of another kind, in pixels.
LARGEST = 1000


class LabelPage:
    """A labelling session in a browser.

    Args:
        session: not asked for its first query yet.
        rules: stopping rules whose words are shown.
        out: told after each cycle, and at the end: where labels are written to.
        port: of the server; 0 takes a free one.

    Attributes:
        server: to be opened at its address.
        doing: what the session does while nobody is asked, for the page.

    Raises:
        UserError: the port is taken.
    """

    def __init__(
        self,
        session: LabelSession,
        *,
        rules: Sequence[NamedRule] = (),
        port: int = 0,
    ) -> None:
        self.session = session
        self.doing = "opening the data"
        self._rules = rules
        self._asked: Asked | None = None
        self._digest = ""
        self._said: tuple[str, ...] = ()
        self._failure = ""
        # Guards what the page sees, and tells the session that the person wants to go on.
        self._changed = threading.Condition()
        self._also_told = session.progress
        session.progress = self._progress
        self._go_on = False
        self._stopped = False
        self._seen_end = threading.Event()
        self.server = LocalServer(
            {"": page, "state.json": self.state, "question.json": self.question},
            deeds={"tell": self._tell, "undo": self._undo, "next": self._next},
            gallery=self._picture,
            port=port,
        )

    # ------------------------------------------------------------------- the session's thread

    def run(self, after_query: Callable[[], object] = lambda: None) -> None:
        """Ask until the budget is spent; answers come from the page.

        Args:
            after_query: called whenever all of a query was told, and at the end.

        Raises:
            UserError: as ``LabelSession.next``; the page tells it, too.
        """
        serving = threading.Thread(target=self.server.serve, name="page", daemon=True)
        serving.start()
        try:
            while self._ask():
                after_query()
                self.doing = "training the classifier"
            after_query()
            if not self._stopped:
                self._seen_end.wait(3.0)  # the page asks once a second
        except UserError as error:
            self._failure = str(error)
            self._seen_end.wait(3.0)
            raise
        finally:
            self.server.close()
            serving.join()

    def stop(self) -> None:
        """End ``run`` before its time; what was answered is kept. From any thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _ask(self) -> bool:
        """Show the next query until all of it was told; False where there is none."""
        asked = self.session.next()
        # Before the first cycle there is nothing to judge.
        records = self.session.records
        said = tuple(say(self._rules, records)) if records else ()
        with self._changed:
            self._said, self._go_on = said, False
            if asked is None:
                return False
            if asked.kind == "lines":
                raise UserError(
                    "This strategy asks for lines of images, which are answered in a sheet. Give --sheet."
                )
            self._asked = asked
            self._digest = self._waiting().question.digest
            while not self._go_on:
                if self._stopped:
                    return False
                # Short waits: an interrupt is noticed between them on every system.
                self._changed.wait(0.5)
            self._asked = None
        return True

    def _progress(
        self, stage: str, done: int, total: int, notes: Mapping[str, float] | None = None
    ) -> None:
        self.doing = f"{stage} ({done:,} of {total:,})" if total else stage
        self._also_told(stage, done, total, notes)

    def _waiting(self) -> Any:
        assert self.session.waiting is not None
        return self.session.waiting

    # ---------------------------------------------------------------------- the page's threads

    def state(self) -> Mapping[str, Any]:
        """What changes from second to second."""
        with self._changed:
            asked = self._asked
            state = (
                "failed" if self._failure else "finished" if self.session.finished else "working"
            )
            if state != "working":
                self._seen_end.set()
            records = list(self.session.records)
            spec = self.session.spec
            return {
                "state": state if asked is None else "asking",
                "doing": self.doing,
                "error": self._failure,
                "query": self._digest if asked else "",
                "told": list(asked.told) if asked else [],
                "asked": self.session.n_asked,
                "budget": spec.budget,
                "curve": _curve(records),
                "stopping": list(self._said),
                "stopped": records[-1].stopped if records else None,
            }

    def question(self) -> Mapping[str, Any]:
        """What is asked: fetched once for each query."""
        with self._changed:
            asked, spec = self._asked, self.session.spec
            if asked is None:
                return {"query": "", "items": []}
            return {
                "query": self._digest,
                "cycle": asked.cycle,
                "kind": asked.kind,
                "unit": asked.unit,
                "dataset": spec.task.name,
                "strategy": spec.strategy.name,
                "classes": list(asked.class_names),
                "skip": self.session.choices.skip,
                "is_picture": asked.items.ndim == 4,
                "items": [
                    {"name": name, "cells": None if cells is None else list(cells.items())}
                    for name, cells in zip(asked.names, asked.rows, strict=True)
                ],
            }

    def _tell(self, sent: Any) -> Mapping[str, Any]:
        """``{"query": digest, "item": number, "label": class or null}``."""
        with self._changed:
            asked = self._current(sent)
            item, label = sent.get("item"), sent.get("label")
            if type(item) is not int or not 1 <= item <= len(asked):
                raise UserError(f"Expected an item from 1 to {len(asked)}; found {item!r}.")
            if label is not None and label not in asked.class_names:
                raise UserError(
                    f"Expected one of {', '.join(asked.class_names)}, or null; found {label!r}."
                )
            waiting = self._waiting()
            waiting.desk.take(waiting.question, {item: (label,)}, via="page")
            self._asked = self.session.asked()
        return self.state()

    def _undo(self, sent: Any) -> Mapping[str, Any]:
        """``{"query": digest}``: the last answer is taken back."""
        with self._changed:
            self._current(sent)
            self.session.undo(via="page")
            self._asked = self.session.asked()
        return self.state()

    def _next(self, sent: Any) -> Mapping[str, Any]:
        """``{"query": digest}``: all was told, and looked at once more."""
        with self._changed:
            asked = self._current(sent)
            if asked.open:
                raise UserError(f"{len(asked.open)} of {len(asked)} items are still open.")
            self._go_on = True
            self._changed.notify_all()
        return self.state()

    def _current(self, sent: Any) -> Asked:
        """The query that is open, where it is the one that was meant."""
        if not isinstance(sent, Mapping):
            raise UserError("Expected an object with the query that is answered.")
        if self._asked is None or self._go_on or sent.get("query") != self._digest:
            raise UserError("This query is not open any more. The page shows the next one.")
        return self._asked

    def _picture(self, name: str) -> tuple[str, bytes] | None:
        """Of ``DIGEST/NUMBER``: the original where there is one, else what the classifier sees."""
        query, _, number = name.partition("/")
        with self._changed:
            asked = self._asked
            if (
                asked is None
                or query != self._digest
                or not (number.isascii() and number.isdecimal())
            ):
                return None
            at = int(number) - 1
            if not 0 <= at < len(asked) or asked.items.ndim != 4:
                return None
            original = None
            if asked.indices is not None:
                original = self.session.originals.picture(int(asked.indices[at]))
            item = self._waiting().items[at]
        # As it is, where a browser can show it: what a person labels is the file, not our copy.
        for beginning, kind in _SHOWN.items():
            if original is not None and original.startswith(beginning):
                return kind, original
        from PIL import Image

        if original is not None:
            shown = Image.open(io.BytesIO(original)).convert("RGB")
            shown.thumbnail((LARGEST, LARGEST))
        else:
            shown = picture(as_uint8(item))
        out = io.BytesIO()
        shown.save(out, "PNG")
        return "image/png", out.getvalue()


def page() -> str:
    """The page itself; it asks for the rest."""
    return (files("alharness.live") / "label.html").read_text(encoding="utf-8")


def _curve(records: Sequence[Any]) -> list[list[float]]:
    """Labels and accuracy of each cycle; empty where there is no test set."""
    return [
        [record.n_labelled, round(record.test.accuracy, 6)]
        for record in records
        if record.test.were_measured
    ]
