"""The published data sets: where their files come from, what they hold and how they are recognised."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class File:
    """One file: its name, the samples in it, and the MD5 of its bytes (idx) or of its labels (CIFAR, None: unknown)."""

    name: str
    samples: int
    md5: str | None


@dataclass(frozen=True)
class Published:
    """A published data set.

    Attributes:
        classes: number of classes.
        shape: shape of an image.
        mean: published mean a channel, in units of [0, 1].
        std: published standard deviation a channel, in units of [0, 1].
        url: where the files, or the archive, are downloaded from.
        archive_md5: MD5 of the CIFAR archive; None for idx files, which are downloaded one by one.
        folders: where the files may lie below a data root, the preferred place first.
        train: files of the training split; images and labels for idx, batches of records for CIFAR.
        test: files of the test split.
        header: label bytes in front of each CIFAR record.
    """

    classes: int
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    url: str
    archive_md5: str | None
    folders: tuple[str, ...]
    train: tuple[File, ...]
    test: tuple[File, ...]
    header: int = 0


MNIST = Published(
    classes=10,
    shape=(1, 28, 28),
    mean=(0.1307,),
    std=(0.3081,),
    url="https://ossci-datasets.s3.amazonaws.com/mnist/",
    archive_md5=None,
    folders=("mnist", "MNIST/raw", "."),
    train=(
        File("train-images-idx3-ubyte.gz", 60000, "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
        File("train-labels-idx1-ubyte.gz", 60000, "d53e105ee54ea40749a09fcbcd1e9432"),
    ),
    test=(
        File("t10k-images-idx3-ubyte.gz", 10000, "9fb629c4189551a2d022fa330f9573f3"),
        File("t10k-labels-idx1-ubyte.gz", 10000, "ec29112dd5afa0611ce80d1b7f02629c"),
    ),
)

FASHION_MNIST = Published(
    classes=10,
    shape=(1, 28, 28),
    mean=(0.2860,),
    std=(0.3530,),
    url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    archive_md5=None,
    folders=("fashion-mnist", "fashion_mnist", "FashionMNIST/raw", "."),
    train=(
        File("train-images-idx3-ubyte.gz", 60000, "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
        File("train-labels-idx1-ubyte.gz", 60000, "25c81989df183df01b3e8a0aad5dffbe"),
    ),
    test=(
        File("t10k-images-idx3-ubyte.gz", 10000, "bef4ecab320f06d8554ea6380940ec79"),
        File("t10k-labels-idx1-ubyte.gz", 10000, "bb300cfdad3c16e7a12a480ee83cd310"),
    ),
)

CIFAR10 = Published(
    classes=10,
    shape=(3, 32, 32),
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2023, 0.1994, 0.2010),
    url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    archive_md5="c32a1d4ab5d03f1284b67883e8d87530",
    folders=("cifar-10-batches-bin", "cifar10/cifar-10-batches-bin", "cifar10", "."),
    train=(
        File("data_batch_1.bin", 10000, "30f55b79f7954f592721267e37ffcbcf"),
        File("data_batch_2.bin", 10000, "bdca50851f742064551c3fa947e975d6"),
        File("data_batch_3.bin", 10000, "23228d18cd9f4c032bb8cfa72996e3ef"),
        File("data_batch_4.bin", 10000, "61be7314d261d42101f429408af67a28"),
        File("data_batch_5.bin", 10000, "8ca6bc10f4bd0e81fba552f724423842"),
    ),
    test=(File("test_batch.bin", 10000, "251f18ce75337ae9ca5d0dbd7ea62cf4"),),
    header=1,
)

CIFAR100 = Published(
    classes=100,
    shape=(3, 32, 32),
    mean=(0.5074, 0.4867, 0.4411),
    std=(0.2011, 0.1987, 0.2025),
    url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
    archive_md5="03b5dce01913d631647c71ecec9e9cb8",
    folders=("cifar-100-binary", "cifar100/cifar-100-binary", "cifar100", "."),
    train=(File("train.bin", 50000, None),),
    test=(File("test.bin", 10000, None),),
    header=2,
)

PUBLISHED: Mapping[str, Published] = {
    "mnist": MNIST,
    "fashion-mnist": FASHION_MNIST,
    "cifar10": CIFAR10,
    "cifar100": CIFAR100,
}
