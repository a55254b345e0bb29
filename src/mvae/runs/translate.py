"""Translation by a run: z is inferred from a sentence and decoded in another modality (Sec. 7)."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from mvae.arguments import checked_arguments, require_whole_number
from mvae.data.table import Table
from mvae.data.vocabulary import UNKNOWN
from mvae.errors import QueryError, abridged
from mvae.evaluation.decoding import consensus
from mvae.modality.modes import evaluating
from mvae.modality.sentences import SentenceModality
from mvae.runs.run import Run

__all__ = ["METHODS", "Translation", "language", "languages", "translate", "translate_rows"]

METHODS = ("greedy", "beam", "sample", "mbr")
# For "mbr": number of samples that are compared, scale of the noise of z, temperature of the words. Chosen by chrF on
# 100 validation rows (docs/research/translation.md).
SAMPLES, SPREAD, TEMPERATURE = 64, 0.5, 0.7
AT_ONCE = 256  # sentences decoded together; each step holds a probability of every word for each


@dataclass(frozen=True)
class Translation:
    """A source text, its translations (the best first, where they are ordered), and its words unknown to the run."""

    source: str
    translations: list[str]
    unknown: list[str]


@checked_arguments("texts", error=QueryError)
def translate(
    run: Run,
    texts: Iterable[str],
    to: str,
    *,
    source: str | None = None,
    method: str = "greedy",
    n: int = 1,
    width: int = 5,
    seed: int = 0,
) -> list[Translation]:
    """Translate sentences, with n alternatives each. The token for unknown words is never written.

    Args:
        run: a run of a model with several languages.
        texts: a list of texts to translate.
        to: the target language (a modality).
        source: the language of the texts; default: the other language, if there is only one.
        method: "sample" is the paper's, z ~ q(z | source), x ~ p(x | z). "greedy" takes the most probable word each
            time; the first alternative comes from the mean of q, others from samples of z. "beam" searches for the n
            most probable sentences given the mean of q. "mbr" draws 64 samples (at least n), each word from p^(1/0.7),
            and returns the n most similar to all of them (minimum Bayes risk, `mvae.evaluation.decoding.consensus`).
        n: number of alternatives.
        width: width of the beam, raised to n if smaller.
        seed: seed of the draws.

    Raises:
        QueryError: an unknown language or method, texts that are not a list of text, an empty text, n or width < 1.
    """
    if not isinstance(texts, Iterable) or isinstance(texts, str | bytes):
        raise QueryError(f"texts must be a list of text, such as ['a sentence'], not {abridged(texts)}")
    texts = list(texts)
    _require_numbers(n, width)
    language(run, to)
    source = source or _other(run, to)
    language(run, source)
    if source == to:
        raise QueryError(f"the texts are in {source} already: choose another language for --to or --from")
    written = run.data.codecs[source]
    rows = []
    for number, text in enumerate(texts, 1):
        if not isinstance(text, str):
            raise QueryError(f"text {number} must be text, not {abridged(text)}")
        try:
            rows.append(written.parse(text))
        except ValueError as error:
            raise QueryError(f"text {number} ({text!r}): {source} is {error}") from None
    if not rows:
        return []
    found = translate_rows(run, torch.stack(rows), source, to, method=method, n=n, width=width, seed=seed)
    write = run.data.codecs[to].format
    return [
        Translation(text, [write(row) for row in alternatives], written.unknown(text) if written.unknown else [])
        for text, alternatives in zip(texts, found, strict=True)
    ]


@checked_arguments(error=QueryError)
@torch.no_grad()
def translate_rows(
    run: Run,
    x: Tensor,
    source: str,
    to: str,
    *,
    method: str = "greedy",
    n: int = 1,
    width: int = 5,
    seed: int = 0,
) -> Tensor:
    """As `translate`, for rows of token numbers: ``rows length`` → ``rows n length``.

    Raises:
        QueryError: an unknown method, n or width < 1.
    """
    _require_numbers(n, width)
    if method not in METHODS:
        raise QueryError(f"no method {method!r}; there are {', '.join(METHODS)}")
    target, write, device = language(run, to), run.data.codecs[to].format, run.model.device
    generator = torch.Generator(device).manual_seed(seed)
    number = max(n, {"beam": width, "mbr": SAMPLES}.get(method, 1))
    found = []
    with evaluating(run.model):
        for part in x.split(max(1, AT_ONCE // number)):
            q = run.model.posterior(Table({source: part}))
            if method == "beam":
                found.append(target.beam(q.mean, number, never=UNKNOWN)[0][:, :n])
                continue
            noise = torch.randn(number, *q.mean.shape, generator=generator, device=device, dtype=q.mean.dtype)
            if method == "greedy":
                noise[0] = 0.0
            spread, sharp = (SPREAD, TEMPERATURE) if method == "mbr" else (1.0, 1.0)
            z = q.rsample(spread * noise)
            rows = target.generate(z, mean=method == "greedy", generator=generator, never=UNKNOWN, temperature=sharp)
            rows = rows.transpose(0, 1)
            if method == "mbr":
                rows = torch.stack([drawn[consensus([write(row) for row in drawn])[:n]] for drawn in rows])
            found.append(rows)
    return torch.cat(found)


def language(run: Run, name: str) -> SentenceModality:
    """The modality of that name, which must be of sentences.

    Raises:
        QueryError: there is no such modality, or it is of another kind.
    """
    run.model.require_known([name])
    modality = run.model.modalities.get(name)
    if not isinstance(modality, SentenceModality):
        raise QueryError(f"{name} is not a language: mvae translate needs a run of sentences (mvae train translation)")
    return modality


def languages(run: Run) -> tuple[str, ...]:
    """The names of the modalities of sentences."""
    return tuple(name for name, modality in run.model.modalities.items() if isinstance(modality, SentenceModality))


def _require_numbers(n: int, width: int) -> None:
    require_whole_number("the number of alternatives n", n, 1)
    require_whole_number("the beam's width", width, 1)


def _other(run: Run, to: str) -> str:
    others = [name for name in languages(run) if name != to]
    if len(others) != 1:
        raise QueryError(
            f"say what language the texts are in, --from {' or '.join(others) or 'a language this run does not have'}"
        )
    return others[0]
