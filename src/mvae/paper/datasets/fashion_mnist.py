"""FashionMNIST: grey images of clothing, published as the same four IDX files as MNIST."""

from os import PathLike

from mvae.data.dataset import Dataset
from mvae.paper.datasets.mnist import load_idx_dataset

MIRRORS = (
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
)
SHA256 = {  # of the decompressed bytes
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def load(data_dir: str | PathLike[str] | None = None) -> Dataset:
    """Load FashionMNIST: 50,000 / 10,000 / 10,000 rows; all else as for `mvae.paper.datasets.mnist.load`."""
    return load_idx_dataset("fashion-mnist", data_dir, mirrors=MIRRORS, sha256=SHA256, classes=CLASSES)
