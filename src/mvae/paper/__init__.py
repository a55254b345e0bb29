"""Every table and figure of the paper as data: published values, settings, what to run, how to compare."""

__all__ = ["ITEMS", "LEVELS", "NEEDS"]

ITEMS = {
    "table1": "inference-network parameters of every model (counted, nothing is trained)",
    "table2": "log p(x1), log p(x1,x2), log p(x1|x2) with proposal q(z|x1)",
    "table3": "variances of the log importance weights with proposal q(z|x1)",
    "table6": "as table2 with proposal q(z|x1,x2)",
    "table7": "as table3 with proposal q(z|x1,x2)",
    "figure2": "64 samples of the prior, 64 given a condition, and whether a classifier sees it in them",
    "table4": "translation: log p by share of aligned pairs, perplexity, chrF and BLEU, whether z is used",
    "table5": "translations in both directions, sampled, with gold ones beside",
    "table11": "pairs of sentences, both from one z of the prior",
    "table12": "Vietnamese translations of English sentences",
    "table13": "English translations of Vietnamese sentences",
    "figure4": "vision: transformations of an image and back, with PSNR, SSIM and F1 beside plain references",
    "figure11": "vision: reconstruction, edges and mask, given all six",
    "figure12": "vision: colour from grey",
    "figure13": "vision: the hidden half of a face",
    "figure14": "vision: the image without its watermark",
    "table8": "MNIST: accuracy of x2 from x1 when few rows are pairs, with the baselines of Sec. 5.1",
    "table9": "FashionMNIST: the same",
    "table10": "MultiMNIST: the same for the digits of its strings, and for exact strings",
    "figure3": "tables 8, 9 and 10 as curves beside the published ones, in RESULTS/figure3.png",
    "figure9": "MVAE19 when each value of its training rows is kept with probability p only, in RESULTS/figure9.png",
    "figure10": "MVAE19 with k = 0 … 50 random subsets, an ε a term or one for all, in RESULTS/figure10.png",
    "lambda": "when do the modalities meet: λ2 × annealing, the extremes of Sec. 2.2, remedies, few pairs",
}

_MNIST = "MNIST (downloaded where --data-dir has none)"
_SENTENCES = "two aligned text files in --data-dir, and mvae[translation]"
_PHOTOS = "CelebA in --data-dir, and mvae[vision] (smoke: drawn faces)"
NEEDS = {  # what is not there after installing; at the defaults of the commands
    **dict.fromkeys(("table2", "table3", "table6", "table7", "lambda", "figure2"), _MNIST),
    **dict.fromkeys(("table4", "table5", "table11", "table12", "table13"), _SENTENCES),
    **dict.fromkeys(("figure4", "figure11", "figure12", "figure13", "figure14"), _PHOTOS),
    **dict.fromkeys(("table8", "table10"), f"{_MNIST} (smoke of table8: the embedded digits)"),
    "table9": "FashionMNIST (downloaded where --data-dir has none)",
    "figure3": "MNIST and FashionMNIST (downloaded where --data-dir has none)",
    **dict.fromkeys(("figure9", "figure10"), "CelebA in --data-dir, and mvae[plots] (smoke: drawn faces)"),
}

LEVELS = {  # the numbers that --levels are, and in words, of the items that take them
    **dict.fromkeys(
        ("table4", "table8", "table9", "table10", "figure3"), (float, "shares of pairs, for example 0.001,0.1")
    ),
    "figure9": (float, "probabilities, for example 0.1,1"),
    "figure10": (int, "numbers of random subsets, for example 0,1,10"),
}
