"""The accuracy of predicting one modality from others, against plain counting."""

import pytest
import torch

from mvae import likelihoods
from mvae.data.table import Table
from mvae.errors import QueryError
from mvae.evaluation.prediction import Accuracy, prediction_accuracy
from mvae.evaluation.validation import validate
from mvae.modality.base import Modality
from mvae.modality.strings import StringModality
from mvae.models import queries
from mvae.models.mvae import MVAE
from mvae.networks.gru import StringDecoder, StringEncoder
from mvae.networks.mlp import LabelEncoder, mlp


@pytest.fixture(autouse=True)
def _few_rows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "ROWS", 7)


def test_accuracy_agrees_with_validation_and_the_posterior_mean() -> None:
    torch.manual_seed(3)
    image = Modality(mlp(6, 4), mlp(2, 6), likelihoods.Bernoulli())
    model = MVAE(
        {"image": image, "label": Modality(LabelEncoder(3, 4), mlp(2, 3), likelihoods.Categorical())}, 2, cross_from=()
    )
    table = Table({"image": torch.rand(50, 6), "label": torch.randint(0, 3, (50,))})
    found = prediction_accuracy(model, table, ["image"], "label")
    assert list(found) == [""]
    assert found[""].mean == pytest.approx(validate(model, table)["accuracy image->label"])
    both = model.posterior(table).mean
    expected = model.modalities["label"].decoder(both).argmax(-1) == torch.as_tensor(table.columns["label"])
    found = prediction_accuracy(model, table, ["image", "label"], "label")[""]
    assert torch.equal(found.right, expected.float())
    assert found.standard_error == pytest.approx((found.mean * (1 - found.mean) / 50) ** 0.5)
    with pytest.raises(QueryError, match="no modality 'sound'"):
        prediction_accuracy(model, table, ["image"], "sound")
    signal = MVAE({"signal": Modality(mlp(3, 4), mlp(2, 3), likelihoods.Gaussian())}, 2, cross_from=())
    with pytest.raises(QueryError, match="there is no accuracy of signal"):
        prediction_accuracy(signal, Table({"signal": torch.rand(5, 3)}), ["signal"], "signal")


def test_string_accuracy_is_counted_by_digit_and_by_string() -> None:
    torch.manual_seed(2)
    string = StringModality(StringEncoder(3, 4), StringDecoder(3, 2, 8), symbols=3, length=4)
    model = MVAE({"image": Modality(mlp(6, 4), mlp(2, 6), likelihoods.Gaussian()), "string": string}, 2, cross_from=())
    lengths = torch.randint(0, 5, (60,))
    strings = torch.where(torch.arange(4) < lengths[:, None], torch.randint(0, 3, (60, 4)), 3)
    table = Table({"image": 4 * torch.rand(60, 6), "string": strings})
    found = prediction_accuracy(model, table, ["image"], "string")
    written = string.generate(model.posterior(table, ["image"]).mean, mean=True)
    texts = ["".join(map(str, row)).rstrip("3") for row in strings.tolist()]  # 3 is the stop symbol
    ours = ["".join(map(str, row)).rstrip("3") for row in written.tolist()]
    right = sum(a == b for true, own in zip(texts, ours, strict=True) for a, b in zip(true, own, strict=False))
    assert 0 < right < sum(map(len, texts))
    assert found[""].mean == pytest.approx(right / sum(map(len, texts)))
    assert found[" whole"].mean == pytest.approx(sum(a == b for a, b in zip(texts, ours, strict=True)) / 60)
    measured = validate(model, table)
    assert found[""].mean == pytest.approx(measured["accuracy image->string"])
    assert found[" whole"].mean == pytest.approx(measured["accuracy image->string whole"])


def test_the_standard_error_allows_for_correlated_digits_of_a_row() -> None:
    """Compared with the spread over many samples in which a row has all of its digits right or none."""
    g = torch.Generator().manual_seed(0)
    count = torch.randint(0, 5, (2000, 80), generator=g)
    right = count * torch.randint(0, 2, (2000, 80), generator=g)
    shares = [Accuracy(r, c) for r, c in zip(right, count, strict=True)]
    spread = torch.tensor([share.mean for share in shares]).std().item()
    assert sum(share.standard_error for share in shares) / 2000 == pytest.approx(spread, rel=0.05)
