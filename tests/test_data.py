"""Data: what is loaded, what is refused and why, and how batches are made."""

import gc
import gzip
import hashlib
import http.server
import io
import re
import struct
import tarfile
import threading
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pooch
import pytest
import torch
from sklearn.datasets import load_digits

from dyadnet.data import (
    DATASETS,
    DataError,
    Dataset,
    Split,
    augmented,
    batches,
    check,
    hold_out,
    inputs,
    load,
    resident,
    subset,
)
from dyadnet.data.published import CIFAR10, CIFAR100, FASHION_MNIST, MNIST, PUBLISHED, File


@pytest.fixture(autouse=True)
def no_data_root(monkeypatch):
    """The user's own data root has no part in the tests."""
    monkeypatch.delenv("DYADNET_DATA", raising=False)


def refusal(call, *args, **kwargs):
    """Return the one line that `call` is refused with."""
    with pytest.raises(DataError) as caught:
        call(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- small stand-ins for the published files, written byte by byte from the formats' definitions ---


def idx_gz(array):
    """An idx file: two zero bytes, type 8 (unsigned byte), number of dimensions, big-endian sizes, the bytes."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(struct.pack(">i", size) for size in array.shape)
    return gzip.compress(header + array.tobytes(), mtime=0)


def md5(data):
    return hashlib.md5(data).hexdigest()


def tiny_idx(folder, seed=0):
    """Write four idx files with 7 and 3 images of 2x3 pixels; return what they hold and the source that fits them."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    arrays, files = {}, {}
    for part, prefix, count in (("train", "train", 7), ("test", "t10k", 3)):
        images = rng.integers(0, 256, (count, 2, 3), dtype=np.uint8)
        labels = rng.integers(0, 10, count, dtype=np.uint8)
        names = f"{prefix}-images-idx3-ubyte.gz", f"{prefix}-labels-idx1-ubyte.gz"
        for name, array in zip(names, (images, labels), strict=True):
            (folder / name).write_bytes(idx_gz(array))
        files[part] = tuple(File(name, count, md5((folder / name).read_bytes())) for name in names)
        arrays[part] = images, labels
    return arrays, replace(MNIST, shape=(1, 2, 3), **files)


def tiny_cifar10(folder, seed=0):
    """Write six files with 4 records each: a label byte, then red, green and blue planes of 32x32 pixels."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    batch_files, arrays = [], []
    for file in (*CIFAR10.train, *CIFAR10.test):
        labels = rng.integers(0, 10, 4, dtype=np.uint8)
        images = rng.integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
        records = b"".join(bytes([label]) + image.tobytes() for label, image in zip(labels, images, strict=True))
        (folder / file.name).write_bytes(records)
        batch_files.append(File(file.name, 4, md5(labels.tobytes())))
        arrays.append((images, labels))
    return arrays, replace(CIFAR10, train=tuple(batch_files[:5]), test=tuple(batch_files[5:]))


def tiny_cifar100(folder, fine):
    """Write two files with one record a fine label: a coarse label byte, the fine label byte, the pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("train.bin", "test.bin"):
        (folder / name).write_bytes(b"".join(bytes([label % 20, label]) + bytes(3072) for label in fine))
    return replace(CIFAR100, train=(File("train.bin", len(fine), None),), test=(File("test.bin", len(fine), None),))


# --- digits ---


def test_digits_are_every_image_of_scikit_learn_exactly_once():
    digits = load("digits")
    pixels, labels = load_digits(return_X_y=True)
    ours = torch.cat([digits.train.images, digits.test.images]).flatten(1).numpy()
    our_labels = torch.cat([digits.train.labels, digits.test.labels]).numpy()
    assert sorted(zip(map(bytes, ours), our_labels.tolist(), strict=True)) == sorted(
        zip(map(bytes, pixels.astype(np.uint8)), labels.tolist(), strict=True)
    )


def test_digits_are_split_by_class_in_the_proportion_of_the_whole():
    digits = load("digits")
    whole = np.bincount(load_digits().target)  # 178 182 177 183 181 182 181 179 174 180
    test = digits.test.labels.bincount().numpy()
    assert (len(digits.train), len(digits.test)) == (1437, 360)
    assert np.abs(test - whole * 360 / 1797).max() < 1
    assert (digits.shape, digits.classes, digits.maximum) == ((1, 8, 8), 10, 16.0)


def test_digits_are_always_the_same_and_leave_the_global_generators_alone():
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002  the legacy generator is what must stay untouched
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = load("digits"), load("digits")
    assert torch.equal(first.train.images, second.train.images)
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


def test_mean_and_std_of_digits_come_from_the_training_split_alone():
    digits = load("digits")
    values = digits.train.images.numpy() / 16
    assert digits.mean == pytest.approx((values.mean(),))
    assert digits.std == pytest.approx((values.std(),))


# --- MNIST and Fashion-MNIST ---


@pytest.mark.parametrize("folder", ["mnist", "MNIST/raw", "."])
def test_idx_files_are_found_in_every_usual_folder_and_read_as_written(tmp_path, monkeypatch, folder):
    arrays, source = tiny_idx(tmp_path / folder)
    monkeypatch.setitem(PUBLISHED, "mnist", source)
    mnist = load("mnist", tmp_path)
    for split, (images, labels) in ((mnist.train, arrays["train"]), (mnist.test, arrays["test"])):
        assert np.array_equal(split.images.numpy(), images[:, None])
        assert split.labels.tolist() == labels.tolist()
        assert (split.images.dtype, split.labels.dtype) == (torch.uint8, torch.int64)
    assert (mnist.mean, mnist.std, mnist.maximum) == ((0.1307,), (0.3081,), 255.0)


def test_the_environment_names_the_data_root_unless_one_is_given(tmp_path, monkeypatch):
    arrays, source = tiny_idx(tmp_path / "right" / "mnist", seed=1)
    monkeypatch.setitem(PUBLISHED, "mnist", source)
    monkeypatch.setenv("DYADNET_DATA", str(tmp_path / "right"))
    assert load("mnist").train.labels.tolist() == arrays["train"][1].tolist()
    assert str(tmp_path / "wrong") in refusal(load, "mnist", tmp_path / "wrong")


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda data: data[:40] + b"\xff" + data[41:], lambda _: b""]
)
@pytest.mark.parametrize("part", [0, 1])
def test_a_truncated_or_altered_idx_file_is_named(tmp_path, monkeypatch, damage, part):
    _, source = tiny_idx(tmp_path / "mnist")
    monkeypatch.setitem(PUBLISHED, "mnist", source)
    path = tmp_path / "mnist" / source.test[part].name
    path.write_bytes(damage(path.read_bytes()))
    message = refusal(load, "mnist", tmp_path)
    assert message.startswith(f"{path}: truncated or altered, MD5 ")
    assert message.endswith(f"download it from {MNIST.url}{path.name}")


@pytest.mark.parametrize(
    "content",
    [
        np.zeros((8, 2, 3), np.uint8),  # a sample too many
        np.zeros((7, 3, 2), np.uint8),  # another image size
        np.zeros(42, np.uint8),  # the right bytes with the wrong dimensions
    ],
)
def test_an_idx_file_with_another_header_is_refused(tmp_path, monkeypatch, content):
    _, source = tiny_idx(tmp_path)
    (tmp_path / source.train[0].name).write_bytes(idx_gz(content))
    images = replace(source.train[0], md5=md5(idx_gz(content)))
    monkeypatch.setitem(PUBLISHED, "mnist", replace(source, train=(images, source.train[1])))
    assert "not an idx file of (7, 2, 3) bytes" in refusal(load, "mnist", tmp_path)


def test_idx_files_of_another_type_or_length_are_refused(tmp_path, monkeypatch):
    _, source = tiny_idx(tmp_path)
    good = gzip.decompress(idx_gz(np.zeros((7, 2, 3), np.uint8)))
    for content in (b"\0\0\x0d" + good[3:], good[:-1], good + b"\0"):
        packed = gzip.compress(content)
        (tmp_path / source.train[0].name).write_bytes(packed)
        images = replace(source.train[0], md5=md5(packed))
        monkeypatch.setitem(PUBLISHED, "mnist", replace(source, train=(images, source.train[1])))
        assert "not an idx file" in refusal(load, "mnist", tmp_path)


def test_mnist_is_not_taken_for_fashion_mnist_whose_files_have_the_same_names(tmp_path, monkeypatch):
    _, source = tiny_idx(tmp_path)
    monkeypatch.setitem(PUBLISHED, "mnist", source)
    load("mnist", tmp_path)
    assert "truncated or altered" in refusal(load, "fashion-mnist", tmp_path)


def test_a_missing_file_is_named_with_the_folder_that_has_the_others(tmp_path, monkeypatch):
    _, source = tiny_idx(tmp_path / "MNIST" / "raw")
    monkeypatch.setitem(PUBLISHED, "mnist", source)
    (tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte.gz").unlink()
    message = refusal(load, "mnist", tmp_path)
    assert message.startswith(f"mnist: {tmp_path / 'MNIST' / 'raw'} has no file t10k-labels-idx1-ubyte.gz; put ")
    assert "neither --data-root nor DYADNET_DATA" in message


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_an_empty_data_root_is_refused_and_nothing_is_downloaded(tmp_path, monkeypatch, name):
    monkeypatch.setattr(pooch, "retrieve", lambda *_: pytest.fail("a data root was given"))
    source = PUBLISHED[name]
    message = refusal(load, name, tmp_path)
    assert f"{tmp_path / source.folders[0]} has no file {source.train[0].name}" in message


# --- CIFAR ---


@pytest.mark.parametrize("folder", ["cifar-10-batches-bin", "cifar10", "."])
def test_cifar10_records_are_read_as_written_in_the_order_of_the_batches(tmp_path, monkeypatch, folder):
    arrays, source = tiny_cifar10(tmp_path / folder)
    monkeypatch.setitem(PUBLISHED, "cifar10", source)
    cifar = load("cifar10", tmp_path)
    assert np.array_equal(cifar.train.images.numpy(), np.concatenate([images for images, _ in arrays[:5]]))
    assert cifar.train.labels.tolist() == np.concatenate([labels for _, labels in arrays[:5]]).tolist()
    assert np.array_equal(cifar.test.images.numpy(), arrays[5][0])
    assert cifar.test.labels.tolist() == arrays[5][1].tolist()
    assert cifar.train.images.is_contiguous()


def test_cifar100_gives_fine_labels(tmp_path, monkeypatch):
    fine = [*range(99, -1, -1), *range(100)]
    monkeypatch.setitem(PUBLISHED, "cifar100", tiny_cifar100(tmp_path / "cifar-100-binary", fine))
    cifar = load("cifar100", tmp_path)
    assert cifar.train.labels.tolist() == fine
    assert (cifar.classes, cifar.shape) == (100, (3, 32, 32))


def test_a_cifar_file_of_the_wrong_size_is_named_with_both_sizes(tmp_path, monkeypatch):
    _, source = tiny_cifar10(tmp_path)
    monkeypatch.setitem(PUBLISHED, "cifar10", source)
    path = tmp_path / "data_batch_3.bin"
    path.write_bytes(path.read_bytes()[:-1])
    assert refusal(load, "cifar10", tmp_path) == f"{path}: has 12291 bytes instead of 12292; unpack {CIFAR10.url} again"


def test_cifar10_labels_must_be_the_published_ones(tmp_path, monkeypatch):
    _, source = tiny_cifar10(tmp_path)
    monkeypatch.setitem(PUBLISHED, "cifar10", source)
    path = tmp_path / "data_batch_5.bin"
    data = bytearray(path.read_bytes())
    data[3073] = (data[3073] + 1) % 10
    path.write_bytes(data)
    assert refusal(load, "cifar10", tmp_path).startswith(f"{path}: its labels are not the published ones")
    data[3073] = 10
    path.write_bytes(data)
    assert refusal(load, "cifar10", tmp_path) == f"{path}: sample 1 has label 10, labels must be 0 to 9"


def test_cifar100_classes_must_be_equally_frequent(tmp_path, monkeypatch):
    fine = [0, 0, *range(2, 100)]
    monkeypatch.setitem(PUBLISHED, "cifar100", tiny_cifar100(tmp_path, fine))
    assert "train.bin: its labels are not the published ones" in refusal(load, "cifar100", tmp_path)


def test_the_tables_hold_the_published_numbers_of_samples():
    for name, source in PUBLISHED.items():
        labelled = [parts[-1:] if source.archive_md5 is None else parts for parts in (source.train, source.test)]
        sizes = [sum(file.samples for file in files) for files in labelled]
        assert sizes == ([60000, 10000] if "mnist" in name else [50000, 10000])
        digests = [file.md5 for file in (*source.train, *source.test)]
        assert all(re.fullmatch("[0-9a-f]{32}", digest) for digest in digests if digest is not None)
    assert {file.md5 for file in MNIST.train}.isdisjoint({file.md5 for file in FASHION_MNIST.train})
    assert DATASETS == ("digits", "mnist", "fashion-mnist", "cifar10", "cifar100")


# --- downloads, from a server on this machine ---


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serve `tmp_path/www`, count the requests, and put the download cache under `tmp_path`."""
    requested = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, directory=str(tmp_path / "www"), **kwargs)

        def log_message(self, format, *args):
            requested.append(self.path)

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    (tmp_path / "www").mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/", tmp_path / "www", requested
        running.shutdown()
        thread.join()
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        gc.collect()  # requests leaves the connection of a failed download to it


def test_idx_files_are_downloaded_once_and_again_when_the_cache_is_damaged(server, tmp_path, monkeypatch, capfd):
    url, www, requested = server
    arrays, source = tiny_idx(www)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setitem(PUBLISHED, "mnist", replace(source, url=url))
    for _ in range(2):
        assert load("mnist").test.labels.tolist() == arrays["test"][1].tolist()
    assert len(requested) == 4
    (tmp_path / "cache" / "dyadnet" / "mnist" / source.test[1].name).write_bytes(b"")
    assert load("mnist").test.labels.tolist() == arrays["test"][1].tolist()
    assert requested[4:] == ["/t10k-labels-idx1-ubyte.gz"]
    assert "\x1b" not in capfd.readouterr().err  # no progress bar where no terminal is


def archive(folder):
    """A `.tar.gz` of the folder."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        tar.add(folder, arcname=folder.name)
    return data.getvalue()


def test_the_cifar_archive_is_downloaded_and_unpacked(server, tmp_path, monkeypatch):
    url, www, requested = server
    arrays, source = tiny_cifar10(tmp_path / "cifar-10-batches-bin")
    (www / "cifar.tar.gz").write_bytes(packed := archive(tmp_path / "cifar-10-batches-bin"))
    monkeypatch.setitem(PUBLISHED, "cifar10", replace(source, url=url + "cifar.tar.gz", archive_md5=md5(packed)))
    for _ in range(2):
        assert np.array_equal(load("cifar10").test.images.numpy(), arrays[5][0])
    assert requested == ["/cifar.tar.gz"]


@pytest.mark.parametrize(("name", "reason"), [("wrong", "wrong checksum"), ("absent", "HTTPError")])
def test_a_failed_download_says_which_folder_to_provide(server, tmp_path, monkeypatch, name, reason):
    url, www, _ = server
    (www / "wrong.tar.gz").write_bytes(b"not the archive")
    monkeypatch.setitem(PUBLISHED, "cifar10", replace(CIFAR10, url=f"{url}{name}.tar.gz"))
    assert refusal(load, "cifar10") == (
        f"cifar10: download from {url}{name}.tar.gz failed ({reason}); put the files in DIR/cifar-10-batches-bin "
        "yourself and name DIR with --data-root or DYADNET_DATA"
    )
    assert not list((tmp_path / "cache").rglob("*.bin"))


def test_an_unreachable_host_is_a_failed_download(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(pooch, "os_cache", lambda _: tmp_path)
    monkeypatch.setitem(PUBLISHED, "mnist", replace(MNIST, url="http://127.0.0.1:9/"))
    assert "failed (ConnectionError); put the files in DIR/mnist" in refusal(load, "mnist")


def test_progress_is_drawn_on_a_terminal(server, monkeypatch, capfd):
    url, www, _ = server
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    _, source = tiny_idx(www)
    monkeypatch.setitem(PUBLISHED, "mnist", replace(source, url=url))
    load("mnist")
    size = (www / source.train[0].name).stat().st_size
    assert re.search(rf"\x1b.*{size}/{size}.*bytes", capfd.readouterr().err)


# --- a user's own arrays ---


def npz(folder, **changes):
    """Write an `.npz` file of 6 and 2 flat samples, with some arrays replaced, or left out where None."""
    arrays = {
        "x_train": np.linspace(0, 1, 24, dtype=np.float32).reshape(6, 4),
        "y_train": np.array([0, 1, 2, 0, 1, 2]),
        "x_test": np.zeros((2, 4), np.float32),
        "y_test": np.array([2, 0]),
    } | changes
    path = folder / "mine.npz"
    np.savez(path, **{key: array for key, array in arrays.items() if array is not None})
    return str(path)


def test_npz_arrays_come_back_as_stored(tmp_path):
    mine = load(npz(tmp_path))
    values = np.linspace(0, 1, 24)
    assert np.allclose(mine.train.images.numpy(), values.reshape(6, 4))
    assert (mine.test.labels.tolist(), mine.classes, mine.shape, mine.maximum) == ([2, 0], 3, (4,), 1.0)
    assert (mine.mean[0], mine.std[0]) == pytest.approx((values.mean(), values.std()))


def test_npz_bytes_are_pixels_with_a_mean_a_channel(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (6, 3, 2, 2), dtype=np.uint8)
    images[:, 2] = 51  # a constant channel
    mine = load(npz(tmp_path, x_train=images, x_test=images[:2]))
    assert (mine.maximum, mine.train.images.dtype) == (255.0, torch.uint8)
    assert mine.mean == pytest.approx(tuple((images / 255).mean(axis=(0, 2, 3))))
    assert mine.std == pytest.approx((*(images / 255).std(axis=(0, 2, 3))[:2], 1.0))
    assert inputs(mine, mine.train.images, normalise=True)[:, 2].abs().max() < 1e-6


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats_become_single_precision_and_whole_float_labels_are_labels(tmp_path, dtype):
    mine = load(npz(tmp_path, x_train=np.eye(6, 4, dtype=dtype), y_train=np.array([0.0, 1, 2, 2, 2, 2])))
    assert mine.train.images.dtype == torch.float32
    assert mine.train.labels.tolist() == [0, 1, 2, 2, 2, 2]


NAN = np.array([[0, 0, 0, 0], [0, np.nan, 0, 0], [np.inf, 0, 0, 0], *[[0] * 4] * 3], np.float32)
BAD_ARRAYS = [
    ({"y_test": None}, ": lacks an array, store x_train, y_train, x_test and y_test"),
    ({"x_train": NAN}, ", training split: 2 images hold NaN or infinity, the first is sample 1; remove or repair them"),
    ({"x_train": np.full((6, 4), 1e300)}, ", training split: 6 images hold NaN or infinity, the first is sample 0; "),
    ({"y_train": np.arange(5)}, ", training split: 6 images but 5 labels, give one label an image"),
    ({"y_train": np.array([0, 1, -1, 0, 1, -2])}, ", training split: sample 2 has label -1, labels must be 0 to 1"),
    ({"y_train": np.full(6, -3)}, ", training split: sample 0 has label -3, labels must be 0 to 0"),
    ({"y_test": np.array([0, 3])}, ", test split: sample 1 has label 3, labels must be 0 to 2"),
    ({"y_train": np.array([0, 1, 0.5, 0, 1, 2])}, ", y_train: label 2 is 0.5, store whole numbers"),
    ({"y_test": np.array([0, np.nan])}, ", y_test: label 1 is nan, store whole numbers"),
    ({"y_test": np.array([np.inf, 0])}, ", y_test: label 0 is inf, store whole numbers"),
    ({"y_test": np.array(["a", "b"])}, ", y_test: has shape (2,) and dtype <U1, store whole numbers in shape (N,)"),
    (
        {"y_test": np.zeros((2, 1), int)},
        ", y_test: has shape (2, 1) and dtype int64, store whole numbers in shape (N,)",
    ),
    ({"x_train": np.zeros((0, 4)), "y_train": np.zeros(0)}, ", training split: no data in images of shape (0, 4), "),
    ({"x_test": np.zeros((0, 4)), "y_test": np.zeros(0)}, ", test split: no data in images of shape (0, 4), "),
    ({"x_test": np.zeros((2, 5))}, ": samples of x_train are (4,) float32 but those of x_test (5,) float32, make them"),
    ({"x_test": np.zeros((2, 4), np.uint8)}, ": samples of x_train are (4,) float32 but those of x_test (4,) uint8, "),
    ({"x_test": np.zeros((2, 2, 2))}, ", x_test: has shape (2, 2, 2), store (N, C, H, W) or (N, features)"),
    ({"x_test": np.zeros((2, 4), np.int64)}, ", x_test: has dtype int64, store uint8 or floats"),
    ({"x_test": np.array([[None] * 4] * 2)}, ": not a readable .npz file of plain arrays (Object arrays cannot be"),
]


@pytest.mark.parametrize(("changes", "reason"), BAD_ARRAYS)
def test_unusable_npz_arrays_are_refused_with_the_first_offender(tmp_path, changes, reason):
    path = npz(tmp_path, **changes)
    assert refusal(load, path).startswith(path + reason)


def test_files_that_are_no_npz_are_refused(tmp_path):
    path = tmp_path / "mine.npz"
    assert "No such file" in refusal(load, str(path))
    whole = Path(npz(tmp_path)).read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2]):
        path.write_bytes(content)
        assert refusal(load, str(path)).startswith(f"{path}: not a readable .npz file of plain arrays (")
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    assert "it holds a single array" in refusal(load, str(path))


def test_an_unknown_name_lists_the_known_ones():
    assert refusal(load, "cifar") == (
        "no data set is called 'cifar': use digits, mnist, fashion-mnist, cifar10, cifar100 or a path that ends in .npz"
    )


# --- data sets as values ---


def ramp(count=10, shape=(1, 6, 5), maximum=255.0):
    """A data set whose sample number n holds n * size, n * size + 1, ... and has the label n."""
    size = int(np.prod(shape))
    images = torch.arange(count * size).reshape(count, *shape).to(torch.uint8)
    split = Split(images, torch.arange(count))
    return Dataset("ramp", split, split, count, shape, maximum, (0.25,) * shape[0], (0.5,) * shape[0])


def test_a_good_split_passes_the_check_and_each_fault_does_not():
    good = ramp(3).train
    check(good, 3, "good")
    assert "sample 2 has label 2" in refusal(check, good, 2, "two classes")
    assert "3 images but 2 labels" in refusal(check, Split(good.images, good.labels[:2]), 3, "short")
    assert "no data" in refusal(check, Split(good.images[:0], good.labels[:0]), 3, "empty")


def test_a_subset_is_the_head_of_each_split():
    part = subset(ramp(), train=4, test=None)
    assert (part.train.labels.tolist(), len(part.test)) == ([0, 1, 2, 3], 10)
    assert torch.equal(part.train.images, ramp().train.images[:4])


def test_the_last_samples_are_held_out_and_the_rest_still_trains():
    part = hold_out(ramp(), 0.3)
    assert part.validation is not None
    assert torch.equal(torch.cat([part.train.images, part.validation.images]), ramp().train.images)
    assert torch.equal(part.validation.labels, ramp().train.labels[7:])
    assert hold_out(ramp(), 0.0).validation is None


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_a_share_that_leaves_nothing_is_refused(share):
    assert refusal(hold_out, ramp(), share) == f"ramp: a share of {share} of 10 samples cannot be held out"


@pytest.mark.parametrize("count", [0, -1, 11])
def test_a_subset_of_none_or_too_many_samples_is_refused(count):
    assert refusal(subset, ramp(), count, 1) == f"ramp, train split: asked for {count} samples, choose 1 to 10"
    assert refusal(subset, ramp(), 1, count) == f"ramp, test split: asked for {count} samples, choose 1 to 10"


def test_a_resident_data_set_and_its_batches_are_on_the_device():
    data = resident(ramp(), "meta")
    assert {data.train.images.device.type, data.test.labels.device.type} == {"meta"}
    for x, y in batches(data, data.train, 4, generator=torch.Generator(), augment=True, normalise=True):
        assert (x.device.type, y.device.type) == ("meta", "meta")


# --- batches ---


def test_inputs_are_scaled_to_one_and_normalised_channel_by_channel():
    data = replace(ramp(2, (3, 2, 2)), mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0))
    raw = data.train.images
    plain = raw.numpy() / 255
    expected = (plain - np.array([0.1, 0.2, 0.3])[:, None, None]) / np.array([0.5, 0.25, 2.0])[:, None, None]
    assert np.allclose(inputs(data, raw, normalise=False).numpy(), plain, atol=1e-7)
    assert np.allclose(inputs(data, raw, normalise=True).numpy(), expected, atol=1e-6)
    assert inputs(data, raw, normalise=False).dtype == torch.float32


def test_float_images_are_not_changed_in_place():
    data = ramp(2, (4,), maximum=1.0)
    images = torch.ones(2, 4)
    assert torch.equal(inputs(data, images, normalise=True), torch.full((2, 4), 1.5))
    inputs(data, images, normalise=False).zero_()
    assert torch.equal(images, torch.ones(2, 4))


def test_without_a_generator_batches_keep_the_order_and_the_last_one_is_short():
    data = ramp()
    parts = list(batches(data, data.train, 4))
    assert [y.tolist() for _, y in parts] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert torch.equal(torch.cat([x for x, _ in parts]), data.train.images / 255)


def test_shuffled_batches_hold_every_sample_once_beside_its_own_label():
    data = ramp()
    parts = list(batches(data, data.train, 3, generator=torch.Generator().manual_seed(1)))
    labels = torch.cat([y for _, y in parts])
    assert sorted(labels.tolist()) == list(range(10))
    assert labels.tolist() != list(range(10))
    assert torch.equal(torch.cat([x for x, _ in parts]), data.train.images[labels] / 255)


def test_a_generator_in_the_same_state_gives_the_same_batches_and_moves_on_after_them():
    data, generator = ramp(), torch.Generator().manual_seed(3)
    state, outside = generator.get_state(), torch.get_rng_state()
    first = torch.cat([x for x, _ in batches(data, data.train, 4, generator=generator, augment=True)])
    second = torch.cat([x for x, _ in batches(data, data.train, 4, generator=generator, augment=True)])
    generator.set_state(state)
    again = torch.cat([x for x, _ in batches(data, data.train, 4, generator=generator, augment=True)])
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert torch.equal(outside, torch.get_rng_state())


def slow_augmented(images, offsets, mirrored):
    """Pad, crop and mirror one image after another."""
    out = np.empty_like(images)
    for n, image in enumerate(images):
        _, height, width = image.shape
        padded = np.pad(image, ((0, 0), (4, 4), (4, 4)))
        row, column = offsets[n]
        crop = padded[:, row : row + height, column : column + width]
        out[n] = crop[:, :, ::-1] if mirrored[n] else crop
    return out


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_augmented_images_equal_those_of_a_plain_loop_for_every_offset(dtype):
    offsets = np.array([(row, column) for row in range(9) for column in range(9)] * 2)
    mirrored = np.repeat([False, True], 81)
    images = np.random.default_rng(0).integers(1, 256, (162, 3, 6, 5)).astype(dtype)
    ours = augmented(torch.from_numpy(images), torch.from_numpy(offsets), torch.from_numpy(mirrored))
    assert np.array_equal(ours.numpy(), slow_augmented(images, offsets, mirrored))
    assert ours.numpy().dtype == dtype


def test_the_centre_crop_is_the_image_itself():
    images = ramp(3).train.images
    assert torch.equal(augmented(images, torch.full((3, 2), 4), torch.zeros(3).bool()), images)


def test_augmentation_draws_all_offsets_and_both_orientations_independently_for_each_image():
    count = 8100
    image = torch.arange(1, 1 + 81 * 2).reshape(1, 1, 9, 18).to(torch.uint8)
    data = replace(ramp(1, (1, 9, 18)), train=Split(image.repeat(count, 1, 1, 1), torch.zeros(count).long()))
    generator = torch.Generator().manual_seed(0)
    x = torch.cat([x for x, _ in batches(data, data.train, 900, generator=generator, augment=True)])
    variants = [
        slow_augmented(image.numpy(), [(row, column)], [flip]).tobytes()
        for row in range(9)
        for column in range(9)
        for flip in (False, True)
    ]
    drawn = [bytes(sample) for sample in (x * 255).round().to(torch.uint8).flatten(1).numpy()]
    counts = np.array([drawn.count(variant) for variant in variants])  # 162 equally likely ones, 50 each on average
    assert counts.sum() == count
    assert ((counts - 50) ** 2 / 50).sum() < 161 + 4 * np.sqrt(2 * 161)  # chi squared, 4 standard deviations


def test_the_border_is_padded_before_normalisation():
    data = ramp(4, (1, 3, 3))
    x, _ = next(batches(data, data.train, 4, generator=torch.Generator().manual_seed(0), augment=True, normalise=True))
    assert (x == -0.5).any()  # raw zero, (0 - 0.25) / 0.5
    assert not (x == 0).any()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"batch_size": 0}, "batch size 0 is too small, choose at least 1"),
        ({"batch_size": 2, "augment": True}, "augmentation is random, pass the generator to draw from"),
    ],
)
def test_impossible_batches_are_refused_before_the_first_one(options, reason):
    data = ramp()
    assert refusal(batches, data, data.train, **options) == reason


def test_flat_samples_are_not_augmented():
    data = ramp(3, (4,))
    assert refusal(batches, data, data.train, 2, generator=torch.Generator(), augment=True) == (
        "ramp: samples of shape (4,) are no images (C, H, W), do not augment them"
    )
