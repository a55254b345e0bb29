"""The two-stage baselines of Sec. 5.1 and App. H: features of x1 learned without labels, then logistic regression.

The supervised network and the autoencoder are models (`mvae.paper.models.deterministic`), trained like any other.
"""
