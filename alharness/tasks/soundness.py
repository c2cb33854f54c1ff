"""Do a task's arrays go together? Looked at whenever a task is loaded, whoever wrote it.

A run indexes labels by items and scatters them by class: labels of another length, kind or range would
give figures, not errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from alharness.errors import UserError
from alharness.lazily import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: The target of an item without a class.
BLANK = -1
#: Numbers looked at in one go for what is not finite: no mask as large as the pool.
_BLOCK = 1 << 22


def sound_names(names: Sequence[str], where: str) -> tuple[str, ...]:
    """Names of the classes of data set ``where``.

    Raises:
        UserError: fewer than two, no texts, empty ones, or one that stands twice.
    """
    found = tuple(names) if isinstance(names, tuple | list) else ()
    if (
        len(found) < 2
        or not all(isinstance(name, str) and name.strip() for name in found)
        or len(set(found)) < len(found)
    ):
        raise UserError(
            f"class_names of data set '{where}' must be at least two different texts, one per class; "
            f"found {names!r:.200}. Name each class once."
        )
    return found


def sound_items(
    pool: Any, test: Any, where: str, *, blanks: bool = False, gaps: bool = False
) -> None:
    """Items of pool and test set: of one kind, one shape, and finite.

    Args:
        pool: an array, or what computes one and has a ``shape``.
        test: an array.
        where: name of the data set, for messages.
        blanks: whether the test set may be empty.
        gaps: whether rows may have NaN.

    Raises:
        UserError: with the array, what was expected of it, and what it is.
    """
    if isinstance(pool, np.ndarray) or not hasattr(pool, "open"):
        _check_array(pool, f"pool_images of data set '{where}'", gaps=gaps)
    _check_array(test, f"test_images of data set '{where}'", may_be_empty=blanks, gaps=gaps)
    of_pool = f"{pool.dtype} {pool.shape[1:]}" if isinstance(pool, np.ndarray) else ""
    of_test = f"{test.dtype} {test.shape[1:]}"
    if tuple(pool.shape[1:]) != test.shape[1:] or (of_pool and of_pool != of_test):
        raise UserError(
            f"Items of pool and test set of data set '{where}' must be of one type and shape; found "
            f"{of_pool or tuple(pool.shape[1:])} and {of_test}. Convert one of them."
        )


def sound_targets(
    targets: Any, n_items: int, n_classes: int, name: str, *, blanks: bool = False
) -> NDArray[np.int64]:
    """Labels as int64, whatever whole numbers they came in: the labels of idx files are uint8.

    Args:
        n_items: how many there must be.
        n_classes: they must lie below.
        name: of the array, for messages.
        blanks: whether -1 is allowed, which says that an item has no class.

    Raises:
        UserError: no array of whole numbers, not one per item, or one that is no class.
    """
    if not isinstance(targets, np.ndarray) or targets.ndim != 1 or targets.dtype.kind not in "iub":
        raise UserError(
            f"{name} must be a NumPy array [N] of whole numbers, one class per item; found "
            f"{_in_words(targets)}. Give numbers, for instance numpy.unique(..., return_inverse=True)[1]."
        )
    if len(targets) != n_items:
        raise UserError(
            f"{name} must be one label per item; found {len(targets):,} labels for {n_items:,} items. "
            "Mend what loads them."
        )
    # Before the conversion: beyond int64 it would wrap.
    blank = (targets == BLANK) if targets.dtype.kind == "i" else np.zeros(n_items, dtype=bool)
    wrong = ((targets < 0) & ~blank) | (targets >= n_classes)
    if not blanks:
        wrong |= blank
    if wrong.any():
        at = int(wrong.argmax())
        raise UserError(
            f"{name} must lie in 0 .. {n_classes - 1}, a number for each of class_names; found "
            f"{targets[at]} at position {at}. Number the classes from 0, or name the further ones."
        )
    return targets.astype(np.int64, copy=False)


def refuse_blanks(targets: NDArray[np.int64], name: str) -> None:
    """Refuse items without a class, where whoever works on them would have to guess.

    Raises:
        UserError: how many there are, and what to do with them.
    """
    blank = targets == BLANK
    if blank.any():
        raise UserError(
            f"{name}: {int(blank.sum()):,} of {len(blank):,} items have no class (-1), the first at position "
            f"{int(blank.argmax())}, and nothing could be said of them here. Label them with 'alharness "
            "label', or leave them out (task.blank=out does, for folders, tables and arrays)."
        )


def absent_classes(targets: NDArray[np.int64], names: Sequence[str]) -> str | None:
    """What to say of classes that no item has; None where there are none such."""
    counts = np.bincount(targets[targets != BLANK], minlength=len(names))
    absent = [name for name, count in zip(names, counts, strict=True) if count == 0]
    if not absent:
        return None
    listed = ", ".join(absent[:5]) + (", ..." if len(absent) > 5 else "")
    return f"{len(absent)} of {len(names)} classes have no item in the pool: {listed}"


def n_shared(pool: NDArray[Any], test: NDArray[Any]) -> int:
    """How many items of the test set are in the pool too, to the bit. Reads both once.

    By Python's 64-bit hash of an item's bytes: a set of the bytes themselves would be a second pool.
    """
    known = {hash(item.tobytes()) for item in test}
    found = {value for item in pool if (value := hash(item.tobytes())) in known}
    return sum(hash(item.tobytes()) in found for item in test)


def shared_note(shared: int | None, n_test: int, what: str = "items") -> dict[str, str]:
    """What to say of items that are in both; nothing where there are none."""
    if not shared:
        return {}
    return {"duplicates": f"{shared:,} of {n_test:,} test {what} are in the pool too"}


def _check_array(items: Any, name: str, *, may_be_empty: bool = False, gaps: bool = False) -> None:
    """Uint8 images or finite float32 rows, at least one."""
    found = _in_words(items)
    is_array = isinstance(items, np.ndarray)
    is_images = is_array and items.dtype == np.uint8 and items.ndim == 4
    is_rows = is_array and items.dtype == np.float32 and items.ndim == 2
    if not (is_images or is_rows) or 0 in items.shape[may_be_empty:]:
        # The remedy is for what was most likely meant, by what was given.
        remedy = "Convert rows with astype('float32')"
        if not is_array:
            remedy = "Convert them with numpy.asarray"
        elif 0 in items.shape:
            remedy = "Give at least one item"
        elif items.dtype == np.uint8 and items.ndim == 3:
            remedy = "Give images their axis of channels: images[:, None]"
        elif items.ndim in (3, 4):
            remedy = "Scale images to 0 .. 255 and convert them with astype('uint8')"
        raise UserError(
            f"{name} must be uint8 images [N, C, H, W] or float32 rows [N, D]; found {found}. {remedy}."
        )
    if not is_rows:
        return
    step = max(1, _BLOCK // items.shape[1])
    for start in range(0, len(items), step):
        part = items[start : start + step]
        finite = (np.isfinite(part) | (gaps & np.isnan(part))).all(axis=1)
        if not finite.all():
            raise UserError(
                f"{name} must be finite; row {start + int((~finite).argmax())} is not. Fill or drop "
                "such rows."
            )


def _in_words(values: Any) -> str:
    if isinstance(values, np.ndarray):
        return f"{values.dtype} of shape {values.shape}"
    return type(values).__name__
