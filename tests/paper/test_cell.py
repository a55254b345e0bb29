"""Cells of the studies: what each changes in its declaration."""

# -- Settings ------------------------------------------------------------------------------------------------------


def test_settings_are_the_experiments_unless_given_and_annealing_keeps_its_share() -> None:
    mnist = Settings.of("mnist")
    assert (mnist.epochs, mnist.anneal_epochs, mnist.batch_size, mnist.learning_rate) == (500, 200, 100, 1e-3)
    assert (mnist.recipe, mnist.model, mnist.weights, mnist.seed) == ("coupled", "mvae", {}, 0)
    assert Settings.of("mnist", epochs=60).anneal_epochs == 24
    kinds = [("coupled", "mvae"), ("paper", "mvae"), ("coupled", "jmvae"), ("paper", "nn")]
    assert [Settings.of("mnist", recipe, 0, model, epochs=60).decay_epochs for recipe, model in kinds] == [24, 0, 0, 24]
    assert Settings.of("mnist", epochs=60, anneal_epochs=0).anneal_epochs == 0
    assert Settings.of("mnist", epochs=None, batch_size=None).epochs == 500
    assert Settings.of("mnist", "paper", 3, learning_rate=0.01).learning_rate == 0.01
    assert (Settings.of("mnist").rows, Settings.of("mnist", rows=10).rows) == (None, 10)
    assert (Settings.of("mnist").pairs, Settings.of("mnist", pairs=0.0).pairs) == (None, 0.0)


def test_coupled_repeats_few_pairs_until_they_are_a_fifth_of_the_rows_but_no_more_than_50_times() -> None:
    levels = {None: 1, 0.0: 1, 0.0005: 50, 0.002: 50, 0.005: 40, 0.01: 20, 0.05: 4, 0.1: 2, 0.5: 1, 1.0: 1}
    assert {level: Settings.of("mnist", pairs=level).repeat_pairs for level in levels} == levels
    shares = {dataset: Settings.of(dataset, pairs=0.1) for dataset in ("mnist", "fashion-mnist", "multimnist")}
    assert {name: (s.cross_share, s.repeat_pairs) for name, s in shares.items()} == {
        "mnist": (0.2, 2), "fashion-mnist": (1.0, 10), "multimnist": (1.0, 10)
    }  # fmt: skip
    assert Settings.of("multimnist", pairs=0.001).repeat_pairs == 50
    assert Settings.of("multimnist", pairs=0.1, cross_share=0.2).repeat_pairs == 2
    assert Settings.of("mnist", cross_share=0.5).build().cross_share == 0.5
    assert Settings.of("mnist", "paper", pairs=0.01).repeat_pairs == 1
    assert Settings.of("mnist", model="jmvae", pairs=0.01).repeat_pairs == 1
    assert Settings.of("mnist", pairs=0.01, repeat_pairs=1).repeat_pairs == 1


def test_few_pairs_are_blurred_in_coupled_and_whatever_the_supervised_network_sees() -> None:
    levels = {None: 0.0, 0.0001: 0.3, 0.001: 0.3, 0.01: 0.3, 0.1: 0.3, 0.5: 0.0, 1.0: 0.0}
    assert {level: Settings.of("mnist", pairs=level).input_noise for level in levels} == levels
    assert {Settings.of("mnist", model="nn", pairs=level).input_noise for level in levels} == {0.3}
    for dataset, noise in (("fashion-mnist", 0.0), ("multimnist", 0.2), ("digits", 0.5)):  # every dataset its own
        assert Settings.of(dataset, pairs=0.01).input_noise == noise
        assert Settings.of(dataset, model="nn", pairs=0.01).input_noise == (0.6 if dataset == "digits" else 0.0)
    for settings in (Settings.of("mnist", "paper", pairs=0.01), Settings.of("mnist", model="jmvae", pairs=0.01)):
        assert settings.input_noise == 0.0
    moved = {d: Settings.of(d, model="nn").input_shift for d in ("mnist", "fashion-mnist", "multimnist", "digits")}
    assert moved == {"mnist": 2, "fashion-mnist": 1, "multimnist": 0, "digits": 0}
    assert {d: Settings.of(d, pairs=0.01).input_shift for d in moved} == moved | {"mnist": 1}
    assert {d: Settings.of(d, pairs=1.0).input_shift for d in moved} == dict.fromkeys(moved, 0)
    powers = {level: Settings.of("fashion-mnist", pairs=level).input_power for level in (None, 0.01, 0.1, 1.0)}
    assert powers == {None: 1.0, 0.01: 0.5, 0.1: 0.5, 1.0: 1.0}
    supervised = [Settings.of("fashion-mnist", model="nn", pairs=level) for level in (0.01, 0.5, 1.0, None)]
    assert [settings.input_power for settings in supervised] == [0.5, 0.5, 1.0, 1.0]
    assert supervised[0].build().modalities["image"].input_power == 0.5
    assert Settings.of("fashion-mnist", "paper", pairs=0.01).input_power == 1.0
    assert Settings.of("fashion-mnist", model="nn").build().modalities["image"].input_shift == 1
    built = Settings.of("mnist", pairs=0.01, input_noise=0.4).build()
    assert {name: modality.input_noise for name, modality in built.modalities.items()} == {"image": 0.4, "label": 0.0}


def test_coupled_guesses_what_rows_lack_and_nothing_else_does() -> None:
    def guessed(settings: Settings) -> tuple[str, ...]:
        built = settings.build()
        assert isinstance(built, MVAE)
        return built.pseudo_labels

    few: list[dict[str, Any]] = [{"pairs": 0.001}, {"pairs": 0.5}]
    for hidden in few:
        assert Settings.of("mnist", **hidden).pseudo_labels
        assert guessed(Settings.of("mnist", **hidden)) == ("label",)
        assert guessed(Settings.of("mnist", **hidden, pseudo_labels=False)) == ()
        assert not Settings.of("mnist", "paper", **hidden).pseudo_labels
        assert not Settings.of("mnist", model="jmvae", **hidden).pseudo_labels
    whole: list[dict[str, Any]] = [{}, {"pairs": 1.0}, {"kept": 1.0}, {"pairs": 0.0}]
    for nothing_hidden in whole:
        assert not Settings.of("mnist", **nothing_hidden).pseudo_labels
    assert guessed(Settings.of("multimnist", pairs=0.1)) == ("string",)
    assert len(guessed(Settings.of("celeba19", kept=0.1))) == 18
    assert not Settings.of("translation", pairs=0.1).pseudo_labels  # whole sentences are never sure
    with pytest.raises(SettingsError, match="no modality of translation is guessed"):
        Settings.of("translation", pairs=0.1, pseudo_labels=True).build()
    with pytest.raises(SettingsError, match="pseudo labels belong to the recipe coupled of the MVAE"):
        Settings.of("mnist", "paper", pairs=0.01, pseudo_labels=True).build()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"batch_size": -5}, "batch_size"),
        ({"rows": 0}, "rows must be at least 1"),
        ({"learning_rate": 0.0}, "rate"),
        ({"pairs": 1.5}, "pairs, the share of complete rows, must be between 0 and 1, not 1.5"),
        ({"cross_share": 0.0}, "cross_share, a share of λ, must be above 0 and at most 1, not 0.0"),
        ({"repeat_pairs": 2}, "repeat_pairs is for few pairs, and 1 or more: not 2 with pairs=None"),
        ({"input_noise": -0.5}, "input_noise must be a finite number ≥ 0, not -0.5"),
        ({"input_shift": -1}, "input_shift, a number of pixels, must be a whole number ≥ 0, not -1"),
        ({"input_power": 0.0}, "input_power must be above 0 and finite, not 0.0"),
        ({"repeat_pairs": 0, "pairs": 0.5}, "repeat_pairs is for few pairs, and 1 or more: not 0 with pairs=0.5"),
    ],
)
def test_settings_outside_their_range_are_refused_before_anything_else(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Settings.of("digits", **changed)
    with pytest.raises(SettingsError, match="no dataset 'phases'; there are digits"):
        Settings.of("phases")


@pytest.mark.parametrize("text", ["label", "label=", "label=much"])
def test_a_weight_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(f"--weight {text!r}: write MODALITY=NUMBER")):
        parse_weights((text,))
    assert parse_weights(("label=10", "image=0.5")) == {"label": 10.0, "image": 0.5}
