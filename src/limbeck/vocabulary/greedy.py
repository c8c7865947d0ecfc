"""The published walk of exact token alignment, over token strings."""

from __future__ import annotations

from collections.abc import Sequence


def greedy_pairs(
    student: Sequence[str],
    teacher: Sequence[str],
    *,
    student_eos: str | None = None,
    teacher_eos: str | None = None,
) -> tuple[list[int], list[int]]:
    """Pairs of equal tokens that equal text goes before, found by walking both sequences of token strings.

    ``▁`` and ``Ġ`` are taken out of every token first. Then, with the texts that each side has walked so far:
    equal texts and equal tokens (or both EOS) are a pair, and both sides advance; else the side with the shorter
    text advances, or both. So ``a b`` can match ``ab``, and byte-level tokens outside ASCII match nothing:
    :func:`exact_pairs` has neither fault. This one is for comparison with published results.

    Args:
        student: token strings of the student's answer, ``T_s``.
        teacher: token strings of the teacher's answer, ``T_t``.
        student_eos: the student's EOS.
        teacher_eos: the teacher's EOS.

    Returns:
        Positions in the student's and in the teacher's sequence. Linear time: texts that differ once differ
        for good, so only the part by which one is ahead is kept.

    Source:
        DSKDv2, arXiv:2504.11426; the same pairs as ``align_sequences`` of songmzhang/DSKDv2 5025279.

    Example:
        >>> greedy_pairs(["ab", "c", "Ġd"], ["▁a", "bc", "▁d"])
        ([2], [2])
    """
    left, right = ([_bare(token) for token in side] for side in (student, teacher))
    found: tuple[list[int], list[int]] = ([], [])
    i = j = 0
    ahead = 0  # characters by which the student's text is longer
    pending = ""
    while i < len(left) and j < len(right):
        if ahead == 0:
            if left[i] == right[j] or (student[i] == student_eos and teacher[j] == teacher_eos):
                found[0].append(i)
                found[1].append(j)
            a, b = left[i], right[j]
            i, j = i + 1, j + 1
        elif ahead > 0:
            a, b, j = pending, right[j], j + 1
        else:
            a, b, i = left[i], pending, i + 1
        short = min(len(a), len(b))
        if a[:short] != b[:short]:
            break
        ahead = len(a) - len(b)
        pending = a[short:] or b[short:]
    return found


def _bare(token: str) -> str:
    return token.replace("▁", "").replace("Ġ", "")
