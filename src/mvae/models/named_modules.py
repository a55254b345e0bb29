"""Modules under any name: PyTorch's own dictionary rejects names with dots and the names of its attributes."""

from collections.abc import Mapping

from torch import nn

__all__ = ["NamedModules"]

_TAKEN = nn.ModuleDict()


def _key(name: str) -> str:
    """The key under which a module is registered: its name, if PyTorch allows it; distinct for distinct names.

    >>> _key("image"), _key("RNA.counts"), _key("type"), _key("50%")
    ('image', 'RNA%2Ecounts', '%type', '50%25')
    """
    key = name.replace("%", "%25").replace(".", "%2E")
    return f"%{key}" if hasattr(_TAKEN, key) else key


class NamedModules(nn.Module):
    """Modules by name, in order. For ordinary names, parameters are named as in `torch.nn.ModuleDict`.

    >>> modules = NamedModules({"image": nn.Linear(1, 1, bias=False), "type": nn.Linear(1, 1, bias=False)})
    >>> list(modules.state_dict()), modules["type"].in_features
    (['image.weight', '%type.weight'], 1)
    """

    by_name: dict[str, nn.Module]

    def __init__(self, modules: Mapping[str, nn.Module]):
        super().__init__()
        for name, module in modules.items():
            self.add_module(_key(name), module)
        self.by_name = dict(modules)

    def __getitem__(self, name: str) -> nn.Module:
        return self.by_name[name]

    def __len__(self) -> int:
        return len(self.by_name)

    def __contains__(self, name: str) -> bool:
        return name in self.by_name
