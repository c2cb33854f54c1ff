"""The author's own split, however it is spelled: one notion for columns, files, folders and keys of arrays.

Folders and files say it by their names (``originals.layout``); here it is what a column says: words
(``Train``, ``validation``, ``PrivateTest``), or flags (``is_test`` of 0 and 1), whose name tells it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from alharness.tasks.originals.layout import is_split_alone, split_of

#: More different texts than this are no splits.
MAX_ROLES = 12
#: What a setting says where there is a column or a file of splits that shall be passed over.
NO_SPLIT = "none"
#: Words of splits that no folder is called by. Kaggle's ``Usage``: the public part is for validation.
WORDS = {
    "pool": "train",
    "holdout": "test",
    "heldout": "test",
    "publictest": "val",
    "privatetest": "test",
}
YES, NO = (
    frozenset({"1", "1.0", "true", "yes", "y", "t"}),
    frozenset({"0", "0.0", "false", "no", "n", "f"}),
)
#: Flags: columns that are called so, alone or with other words of the kind.
_FLAG = re.compile(
    r"(?:is|in|use|for|as)?_?(train|training|test|testing|val|valid|validation|holdout|heldout)"
    r"_?(?:set|flag|split|data|item)?"
)


def roles_in(name: str, texts: Iterable[str]) -> Mapping[str, str] | None:
    """What each text of a column says: ``train``, ``test``, ``val`` or ``unlabelled``; None: no splits.

    Args:
        name: of the column: ``is_test`` gives 0 and 1 their meaning.
        texts: the different ones that occur.
    """
    found = {text: _role(text) for text in texts}
    if found and all(found.values()):
        return {text: str(role) for text, role in found.items()}
    # Flags of 0 and 1 have a meaning only by their column's name.
    flag = _flag(name)
    if flag is None or not found or not all(text.strip().lower() in YES | NO for text in found):
        return None
    other = "test" if flag == "train" else "train"
    return {text: flag if text.strip().lower() in YES else other for text in found}


def _role(text: str) -> str | None:
    bare = re.sub(r"[^a-z]", "", text.lower())
    if bare in WORDS:
        return WORDS[bare]
    return split_of(text) if is_split_alone(text) else None


def is_flag(name: str) -> bool:
    """Whether a column of 0 and 1 under this name says a split."""
    return _flag(name) is not None


def _flag(name: str) -> str | None:
    # isTest, Is Test and is-test are one name.
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.strip()).lower()
    matched = _FLAG.fullmatch(re.sub(r"[\s.-]+", "_", snake))
    return (_role(matched[1]) or split_of(matched[1])) if matched else None
