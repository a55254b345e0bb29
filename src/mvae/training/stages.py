"""Training stages: a model may be trained part by part (TELBO: the joint model first, then unimodal encoders)."""

from mvae.models.base import MultimodalVAE

__all__ = ["Stages"]


class Stages:
    """A model's stages, each with the same number of epochs: the stage of an epoch, and what is trained in it."""

    def __init__(self, model: MultimodalVAE, epochs: int):
        self.model, self.epochs, self.names = model, epochs, model.stages
        self._trainable = [p for p in model.parameters() if p.requires_grad]  # the user has frozen the others
        # A module in evaluation mode inside a model in training mode was put there by the user: a frozen batch norm.
        self._frozen = [m for m in model.modules() if not m.training] if model.training else []

    @property
    def all_epochs(self) -> int:
        """The number of epochs of all stages together."""
        return self.epochs * len(self.names)

    def of(self, epoch: int) -> int:
        """The number of the stage that a (0-based) epoch belongs to; after the last epoch, the last stage's."""
        return min(epoch // self.epochs, len(self.names) - 1)

    def enter(self, number: int) -> None:
        """Begin a stage: from now on only its parameters have gradients."""
        self.model.stage = self.names[number]
        chosen = {id(parameter) for parameter in self.model.stage_parameters(self.names[number])}
        for parameter in self._trainable:
            parameter.requires_grad_(id(parameter) in chosen)
            parameter.grad = None
        self._evaluated = [*self._frozen]
        for module in self.model.modules():
            own = list(module.parameters())
            if own and not any(parameter.requires_grad for parameter in own):
                self._evaluated += module.modules()

    def train(self) -> None:
        """Switch to training mode, except for what the user has frozen, whose batch statistics stay fixed.

        Modules are frozen if no parameter of theirs is trained, or if they were in evaluation mode in a model that was
        in training mode.
        """
        self.model.train()
        for module in self._evaluated:
            module.training = False

    def __enter__(self) -> "Stages":
        return self

    def __exit__(self, *_: object) -> None:
        """Let every parameter have a gradient again."""
        for parameter in self._trainable:
            parameter.requires_grad_(True)
