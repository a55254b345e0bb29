"""A tiny parallel corpus: sentences of a made-up grammar and their word-by-word translations."""

from pathlib import Path

import numpy as np

EN = {"who": ["I", "you", "she", "Tom"], "does": ["sees", "likes", "buys"], "what": ["cats", "rice", "books", "tea"]}
VI = {
    "I": "tôi",
    "you": "bạn",
    "she": "cô ấy",
    "Tom": "Tom",
    "sees": "nhìn thấy",
    "likes": "thích",
    "buys": "mua",
    "cats": "mèo",
    "rice": "cơm",
    "books": "sách",
    "tea": "trà",
    ".": ".",
}


def sentence(rng: np.random.RandomState, number: int) -> tuple[str, str]:
    """A sentence and its translation; both end with the number, so that no two are equal."""
    words = [options[rng.randint(len(options))] for options in EN.values()]
    return " ".join([*words, str(number), "."]), " ".join([*(VI[word] for word in words), str(number), "."])


def write(data_dir: Path, pairs: int = 120, other: bool = False, seed: int = 0) -> Path:
    """Write the files that `mvae.paper.datasets.translation.load` reads; return their folder."""
    folder = data_dir / "en-vi"
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.RandomState(seed)
    for name, rows in {"train": pairs, **({"tst2012": 5} if other else {})}.items():
        made = [sentence(rng, number) for number in range(rows)]
        for language, lines in zip(("en", "vi"), zip(*made, strict=True), strict=True):
            (folder / f"{name}.{language}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
