from tests.oracle import LinearGaussian


def test_import() -> None:
    assert LinearGaussian(1, [1], 0).names == ["x1"]
