"""Pictures brought to MNIST's form, and the commands predict and evaluate on a network trained here."""

import json

import numpy as np
import pytest
from PIL import Image, ImageOps
from typer.testing import CliRunner

from fastbp import MLP, SGD, Trainer, load
from fastbp.cli._app import app
from fastbp.cli._predict import evaluate_on, predict_pictures
from fastbp.datasets import load_mnist
from fastbp.datasets.pictures import PictureError, read_digit, to_mnist

TRAIN, (IMAGES, LABELS) = load_mnist(normalize=False)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    network = MLP((784, 50, 10), seed=0, weight_init_std="he")
    Trainer(network, SGD(0.1)).fit(*TRAIN, iterations=2000, divide_by=255, evaluate_every=None, progress=False)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    network.save(path)
    return path


def drawn(image, rng, dark_ink, mode="L"):
    """An image of MNIST as a picture that somebody else made: larger, elsewhere on other paper, less contrast."""
    side = int(rng.integers(40, 300))
    digit = Image.fromarray(image.reshape(28, 28)).resize((side, side), Image.Resampling.BICUBIC)
    paper = Image.new("L", (side + int(rng.integers(0, 200)), side + int(rng.integers(0, 200))))
    paper.paste(digit, tuple(int(rng.integers(0, total - side + 1)) for total in paper.size))
    paper = paper.point(lambda value: 20 + value * 0.8)
    return (ImageOps.invert(paper) if dark_ink else paper).convert(mode)


@pytest.mark.parametrize("dark_ink", [False, True])
def test_pictures_of_mnists_own_digits_are_what_they_were(model, tmp_path, dark_ink):
    """Drawn anew at other sizes and places, they are predicted as the originals are, nearly all."""
    rng, paths = np.random.default_rng(0), []
    for number in range(150):
        paths.append(tmp_path / f"{number}.png")
        drawn(IMAGES[number], rng, dark_ink, ("L", "RGB", "RGBA", "P")[number % 4]).save(paths[-1])
    network = load(model)
    expected = network.predict(IMAGES[:150] / 255).argmax(axis=1)
    found = np.array([one.label for one in predict_pictures(network, paths)])
    assert (found == expected).mean() >= 0.95  # one pixel to the side changes some
    assert (found == LABELS[:150]).mean() >= 0.93


def test_the_form_is_mnists():
    """A bar of ink far off the middle: 20 pixels long, its centre of mass in the middle, its shape kept."""
    gray = np.full((300, 500), 255.0)
    gray[10:210, 400:450] = 0
    image = to_mnist(gray)
    assert (image.shape, image.dtype, image.max()) == ((28, 28), np.uint8, 255)
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    assert (len(rows), len(columns)) == (20, 5)
    assert (rows.mean(), columns.mean()) == pytest.approx((14, 14), abs=0.5)
    np.testing.assert_array_equal(to_mnist(255 - gray), image)
    np.testing.assert_array_equal(to_mnist(gray / 2 + 100), image)


def test_the_centre_is_that_of_mass():
    gray = np.zeros((60, 60))
    gray[20:40, 20:32] = 255  # a wide stem, and a thin long arm
    gray[20:22, 20:40] = 255
    image = to_mnist(gray).astype(float)
    for axis in (0, 1):
        centre = (image.sum(axis=1 - axis) * (np.arange(28) + 0.5)).sum() / image.sum()
        assert centre == pytest.approx(14.5, abs=0.5)


def test_an_image_of_mnist_stays_nearly_what_it_is():
    differences = [
        np.abs(to_mnist(image.reshape(28, 28)) - image.reshape(28, 28).astype(float)) for image in IMAGES[:200]
    ]
    assert np.median([one.mean() for one in differences]) < 0.5


def test_transparent_paper_is_white(tmp_path):
    picture = Image.new("RGBA", (60, 60), (0, 0, 0, 0))
    picture.paste((0, 0, 0, 255), (25, 10, 30, 50))
    picture.save(tmp_path / "one.png")
    assert read_digit(tmp_path / "one.png").max() == 255


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + bytes(30)])
def test_files_that_are_no_pictures(tmp_path, content):
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(PictureError, match=r"x\.png: cannot be read as a picture"):
        read_digit(tmp_path / "x.png")


def test_pictures_of_nothing(tmp_path):
    Image.new("L", (50, 50), 130).save(tmp_path / "x.png")
    with pytest.raises(PictureError, match=r"x\.png: shows nothing"):
        read_digit(tmp_path / "x.png")
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        read_digit(tmp_path / "y.png")


def assert_is_a_picture(path):
    with Image.open(path) as picture:
        assert min(picture.size) > 200
        assert (np.asarray(picture.convert("L")) < 128).mean() > 0.01


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_predict(model, tmp_path):
    paths = []
    for number in (0, 1):  # a 7 and a 2
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(255 - IMAGES[number].reshape(28, 28)).save(paths[-1])
    result = run("predict", model, *paths, "--plot", tmp_path / "plot.png", "--json", tmp_path / "found.json")
    assert result.exit_code == 0, result.output
    text = result.output.replace("\n", "")  # long paths are wrapped
    assert "0.png: 7" in text
    assert "1.png: 2" in text
    found = json.loads((tmp_path / "found.json").read_text())["predictions"]
    assert [one["label"] for one in found] == [7, 2]
    assert sum(found[0]["probabilities"]) == pytest.approx(1, abs=1e-5)
    assert_is_a_picture(tmp_path / "plot.png")
    only = run("predict", model, *paths, "--json", "-")
    assert json.loads(only.output)["predictions"] == found


def test_evaluate(model, tmp_path):
    result = run("evaluate", model, "--plot", tmp_path / "plot.png", "--json", tmp_path / "found.json")
    assert result.exit_code == 0, result.output
    found, network = json.loads((tmp_path / "found.json").read_text()), load(model)
    assert found["accuracy"] == pytest.approx(network.accuracy(IMAGES / 255, LABELS), abs=1e-9)
    assert f"accuracy {found['accuracy']:.4f}" in result.output
    confusion = np.array(found["confusion"])
    np.testing.assert_array_equal(confusion.sum(axis=1), np.bincount(LABELS))
    assert confusion.trace() == round(found["accuracy"] * 10_000)
    probabilities = [one["probability"] for one in found["mistakes"]]
    assert probabilities == sorted(probabilities, reverse=True)
    assert all(LABELS[one["image"]] == one["label"] != one["predicted"] for one in found["mistakes"])
    assert len(found["mistakes"]) == 10_000 - confusion.trace()
    assert_is_a_picture(tmp_path / "plot.png")


def test_probabilities_of_other_losses():
    x = np.random.default_rng(0).random((5, 4))
    binary = MLP((4, 3, 2), loss="binary_cross_entropy", seed=0)
    np.testing.assert_allclose(binary.predict_proba(x), 1 / (1 + np.exp(-binary.predict(x))), rtol=1e-6)
    softmax = MLP((4, 3), seed=0, weight_init_std=1, dtype="float64")
    scores = np.exp(softmax.predict(x))
    np.testing.assert_allclose(softmax.predict_proba(x), scores / scores.sum(axis=1, keepdims=True), rtol=1e-12)
    assert softmax.predict_proba(np.empty((0, 4))).shape == (0, 3)
    with pytest.raises(ValueError, match="has no probabilities"):
        MLP((4, 3), loss="huber").predict_proba(x)


def test_wrong_models_and_files(model, tmp_path):
    Image.fromarray(IMAGES[0].reshape(28, 28)).save(tmp_path / "digit.png")
    MLP((20, 3)).save(tmp_path / "other.safetensors")
    MLP((784, 3), loss="squared_error").save(tmp_path / "numbers.safetensors")
    for arguments, message in [
        (("predict", tmp_path / "none.safetensors", tmp_path / "digit.png"), "there is no such file"),
        (("predict", tmp_path / "digit.png", tmp_path / "digit.png"), "is not a complete safetensors file"),
        (("predict", tmp_path / "other.safetensors", tmp_path / "digit.png"), "takes 20 numbers for each image"),
        (("predict", tmp_path / "numbers.safetensors", tmp_path / "digit.png"), "a classifier is needed"),
        (("predict", model, tmp_path / "none.png"), "none.png: there is no such file"),
        (("evaluate", tmp_path / "other.safetensors"), "takes 20 numbers for each image, the images have 784"),
        (("evaluate", model, "--plot", tmp_path / "x.txt"), "--plot must end in"),
    ]:
        result = run(*arguments)
        assert result.exit_code == 2
        assert message in result.output
    with pytest.raises(ValueError, match="takes 20"):
        evaluate_on(load(tmp_path / "other.safetensors"), IMAGES, LABELS)
