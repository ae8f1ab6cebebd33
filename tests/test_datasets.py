import gzip
import hashlib

import numpy as np
import pytest
from conftest import write_idx

from fastbp.datasets import load_mnist, read_idx
from fastbp.datasets.idx import DatasetError
from fastbp.datasets.mnist import OWN_FILES

IMAGES = "train-images-idx3-ubyte.gz"


def test_mnist_is_whole_and_in_the_books_form():
    (x_train, t_train), (x_test, t_test) = load_mnist()
    assert (x_train.shape, x_test.shape) == ((60_000, 784), (10_000, 784))
    assert (x_train.dtype, t_train.dtype) == (np.float32, np.uint8)
    assert (x_train.min(), x_train.max()) == (0, 1)
    np.testing.assert_array_equal(np.bincount(t_train), [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949])
    np.testing.assert_array_equal(t_test[:10], [7, 2, 1, 0, 4, 1, 4, 9, 5, 9])
    assert np.mean(x_train == 0) == pytest.approx(0.81, abs=0.005)


def test_options(small_data):
    (raw, labels), _ = load_mnist(normalize=False, data_dir=small_data)
    (x, _), _ = load_mnist(data_dir=small_data)
    np.testing.assert_array_equal(x, raw.astype(np.float32) / 255.0)
    assert raw.dtype == np.uint8
    (square, _), _ = load_mnist(flatten=False, data_dir=small_data)
    np.testing.assert_array_equal(square, x.reshape(300, 1, 6, 6))
    (_, one_hot), _ = load_mnist(one_hot_label=True, data_dir=small_data)
    np.testing.assert_array_equal(one_hot, np.arange(10) == labels[:, np.newaxis])
    x += 1  # what is returned is the caller's own


def test_the_folder_may_come_from_the_environment(small_data, monkeypatch):
    monkeypatch.setenv("FASTBP_DATA_DIR", str(small_data))
    assert load_mnist()[0][0].shape == (300, 36)


def test_files_may_be_uncompressed(small_data):
    packed = small_data / IMAGES
    packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()
    assert load_mnist(data_dir=small_data)[0][0].shape == (300, 36)


def test_the_digests_are_those_of_the_raw_content():
    for line in (OWN_FILES / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split()
        assert hashlib.sha256(gzip.decompress((OWN_FILES / f"{name}.gz").read_bytes())).hexdigest() == digest


def test_a_changed_pixel_of_mnist_is_noticed(tmp_path, monkeypatch):
    from fastbp.datasets import mnist

    for file in OWN_FILES.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    content = bytearray(gzip.decompress((tmp_path / IMAGES).read_bytes()))
    content[1000] ^= 1
    (tmp_path / IMAGES).write_bytes(gzip.compress(bytes(content), 1))
    monkeypatch.setattr(mnist, "OWN_FILES", tmp_path)
    with pytest.raises(DatasetError, match=f"{IMAGES}: is damaged: its SHA-256 is not that of MNIST's"):
        load_mnist()


def damaged(folder, change):
    path = folder / IMAGES
    path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes()))))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content[:-1], "is truncated: 10815 bytes, expected 10816 for shape"),
        (lambda content: content + b"\0", "is too long: 10817 bytes, expected 10816"),
        (lambda content: content[:9], "is truncated: 9 bytes, the header alone has 16"),
        (lambda content: b"", "begins with nothing"),
        (lambda content: b"\0\0\x08\x01" + content[4:], "begins with 00000801, expected 00000803"),
        (lambda content: b"\0\0\x0d\x03" + content[4:], "is not an IDX file of unsigned bytes in 3 dimensions"),
        (lambda content: content[:4] + b"\0\0\0\0" + content[8:16], "holds no samples"),
        (lambda content: content[:4] + b"\xff\xff\xff\xff" + content[8:], "is truncated"),
    ],
)
def test_damaged_files_are_named(small_data, change, message):
    damaged(small_data, change)
    with pytest.raises(DatasetError, match=f"{IMAGES}: .*{message}"):
        load_mnist(data_dir=small_data)


def test_a_truncated_gzip_file_is_named(small_data):
    path = small_data / IMAGES
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DatasetError, match=f"{IMAGES}: cannot be read"):
        load_mnist(data_dir=small_data)


def test_files_that_do_not_fit_together_are_named(small_data):
    write_idx(small_data / "t10k-labels-idx1-ubyte.gz", np.zeros(99))
    with pytest.raises(DatasetError, match="t10k-labels-idx1-ubyte.gz: has 99 labels for the 100 images"):
        load_mnist(data_dir=small_data)
    write_idx(small_data / "t10k-labels-idx1-ubyte.gz", np.full(100, 11))
    with pytest.raises(DatasetError, match="t10k-labels-idx1-ubyte.gz: holds the label 11, expected 0 to 9"):
        load_mnist(data_dir=small_data)
    write_idx(small_data / "t10k-labels-idx1-ubyte.gz", np.zeros(100))
    write_idx(small_data / "t10k-images-idx3-ubyte.gz", np.zeros((100, 5, 5)))
    with pytest.raises(DatasetError, match=r"training images are \(6, 6\), test images \(5, 5\)"):
        load_mnist(data_dir=small_data)


def test_missing_files_and_folders_are_named(small_data, tmp_path):
    (small_data / IMAGES).unlink()
    with pytest.raises(DatasetError, match=f"{IMAGES}: there is no such file"):
        load_mnist(data_dir=small_data)
    with pytest.raises(DatasetError, match="nowhere: there is no such folder"):
        load_mnist(data_dir=tmp_path / "nowhere")


def test_read_idx(tmp_path):
    array = np.arange(24).reshape(2, 3, 4)
    write_idx(tmp_path / "some", array)
    np.testing.assert_array_equal(read_idx(tmp_path / "some", 3), array)
    with pytest.raises(ValueError, match="expected 00000802"):
        read_idx(tmp_path / "some", 2)
