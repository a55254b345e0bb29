"""What the reproduction adds to the library: datasets, declarations, ablation models, and the command `reproduce`."""

DATASETS = "mvae.paper.datasets"
DECLARATIONS = "mvae.paper.experiments"

_ABLATIONS = "mvae.paper.models"
MODELS = {
    "mvae_joint_only": f"{_ABLATIONS}.extremes:JointOnly",
    "mvae_q_joint_only": f"{_ABLATIONS}.extremes:QuotientJointOnly",
    "mvae_singles_only": f"{_ABLATIONS}.extremes:SinglesOnly",
    "mvae_ramped": f"{_ABLATIONS}.remedies:RampedMVAE",
    "mvae_bounded": f"{_ABLATIONS}.remedies:BoundedMVAE",
    "mvae_penalised": f"{_ABLATIONS}.remedies:PenalisedMVAE",
    "ae": f"{_ABLATIONS}.deterministic:Autoencoder",
    "nn": f"{_ABLATIONS}.deterministic:SupervisedNetwork",
}

COMMANDS = {
    "reproduce": ("mvae.paper.command:reproduce_command", "Reproduce the tables and figures of the paper, one by one."),
    "paper-score": ("mvae.paper.command:score_command", "Compute the numbers of the paper's tables for one run."),
}
