"""Search results for people: rank, score with its bar, and the file or caption."""

from __future__ import annotations

from collections.abc import Sequence

from bt_cli.display.table import Column, Rows, show
from bt_cli.search.candidates import Hit

RANK = Column("#", right=True, style="dim")
MATCH = Column("match", right=True, style="bold")
LOGIT = Column("logit", right=True)
COSINE = Column("cosine (ITC)", right=True, short="cosine")
BAR = Column("", style="green", bar=True)


def show_hits(hits: Sequence[Hit], *, captions: bool = False, by: str = "") -> None:
    """Print the answers of a search or rerank on stdout; on a terminal under a line with the checkpoints, `by`.

    A bar after reranking is the probability of a match; before, it is the cosine as a share of the best one, since
    useful cosines all lie in a narrow range.
    """
    reranked = any(hit.itm_prob is not None for hit in hits)
    cosines = any(hit.itc is not None for hit in hits)
    columns = [RANK]
    columns += [MATCH, BAR, LOGIT] if reranked else []
    columns += [COSINE] if cosines else []
    columns += [] if reranked else [BAR]
    columns += [Column("caption")] if captions else []
    columns += [Column("image", path=True)]
    rows = Rows(columns, title=f"by {by}" if by else "")
    best = max((hit.score for hit in hits), default=0.0)
    for hit in hits:
        cells: list[object] = [hit.rank]
        if reranked:
            cells += [percent(hit.itm_prob), hit.itm_prob, decimal(hit.itm_logit, 2)]
        if cosines:
            cells += [decimal(hit.itc, 4)]
        if not reranked:
            cells += [hit.score / best if best > 0 else 0.0]
        cells += [hit.caption] if captions else []
        rows.add(*cells, hit.path)
    show(rows)


def percent(probability: float | None) -> str | None:
    """`97.3 %`, and never 100 or 0 for what is only near to it."""
    if probability is None:
        return None
    text = f"{100 * probability:.1f}"
    if text == "100.0" and probability < 1:
        text = ">99.9"
    elif text == "0.0" and probability > 0:
        text = "<0.1"
    return f"{text} %"


def decimal(value: float | None, digits: int) -> str | None:
    """A number with so many digits behind the point; no minus before nothing."""
    return None if value is None else f"{value:.{digits}f}".replace(f"-{0:.{digits}f}", f"{0:.{digits}f}")
