"""Training stages: a model may be learned part after part (TELBO: the joint model first, then unimodal encoders)."""

from mvae.models.base import MultimodalVAE

__all__ = ["Stages"]


class Stages:
    """A model's stages, of so many epochs each: which one an epoch belongs to, and what is trained in it."""

    def __init__(self, model: MultimodalVAE, epochs: int):
        self.model, self.epochs, self.names = model, epochs, model.stages
        self._trainable = [p for p in model.parameters() if p.requires_grad]  # the others its user has frozen
        # In a model that is in training mode, what is in evaluation mode has been put there: a frozen batch norm.
        self._frozen = [m for m in model.modules() if not m.training] if model.training else []

    @property
    def all_epochs(self) -> int:
        """Epochs of all stages together."""
        return self.epochs * len(self.names)

    def of(self, epoch: int) -> int:
        """The number of the stage that a (0-based) epoch belongs to; the last one's after the last epoch."""
        return min(epoch // self.epochs, len(self.names) - 1)

    def enter(self, number: int) -> None:
        """From now on only this stage's parameters have gradients."""
        self.model.stage = self.names[number]
        chosen = {id(parameter) for parameter in self.model.stage_parameters(self.names[number])}
        for parameter in self._trainable:
            parameter.requires_grad_(id(parameter) in chosen)
            parameter.grad = None

    def train(self) -> None:
        """Training mode, except for what the user has frozen: batch statistics stay as they are there, too.

        That is networks of which no parameter is trained, and what was in evaluation mode in a model that was not.
        """
        self.model.train()
        for module in self.model.modules():
            own = list(module.parameters())
            if own and not any(parameter.requires_grad for parameter in own):
                module.eval()
        for module in self._frozen:
            module.training = False

    def __enter__(self) -> "Stages":
        return self

    def __exit__(self, *_: object) -> None:
        """Every parameter has its gradient again."""
        for parameter in self._trainable:
            parameter.requires_grad_(True)
