"""One photo: upright, eight bits, three channels; or refused, and never run, whatever its bytes."""

from __future__ import annotations

import pickle
from contextlib import nullcontext
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, features

from labelsmooth.data import photos
from labelsmooth.data.dataset import PhotoImages
from labelsmooth.data.photos import BadPhoto, read_photo


class TestPixels:
    def pixels(self, image: Image.Image, tmp_path: Path, name: str = "a.png", **options) -> np.ndarray:
        image.save(tmp_path / name, **options)
        return read_photo(tmp_path / name, 14).pixels.numpy()

    def test_exif_orientation(self, tmp_path: Path) -> None:
        image = Image.new("RGB", (48, 32), "white")
        image.paste("red", (0, 0, 24, 32))
        exif = Image.Exif()
        exif[0x0112] = 6  # turned by 90 degrees: left is up
        pixels = self.pixels(image, tmp_path, "a.jpg", exif=exif, quality=95)
        assert pixels.shape == (3, 24, 16)
        assert pixels[1, 3].max() < 60  # red above
        assert pixels[1, 20].min() > 200  # white below

    def test_a_damaged_exif_block_does_not_matter(self, tmp_path: Path) -> None:
        pixels = self.pixels(Image.new("RGB", (48, 32), "red"), tmp_path, "a.jpg", exif=b"Exif\0\0garbage")
        assert pixels.shape == (3, 16, 24)

    def test_alpha_is_over_white(self, tmp_path: Path) -> None:
        assert (self.pixels(Image.new("RGBA", (16, 16), (0, 0, 0, 0)), tmp_path) == 255).all()
        half = self.pixels(Image.new("LA", (16, 16), (0, 128)), tmp_path)
        assert np.abs(half.astype(int) - 127).max() <= 1

    def test_palette(self, tmp_path: Path) -> None:
        image = Image.new("RGB", (16, 16), (10, 200, 30)).quantize(4)
        assert self.pixels(image, tmp_path)[:, 0, 0].tolist() == [10, 200, 30]
        assert (self.pixels(image, tmp_path, transparency=image.getpixel((0, 0))) == 255).all()

    @pytest.mark.parametrize(("value", "expected"), [(0, 0), (32896, 128), (65535, 255)])
    def test_16_bits_are_scaled(self, value: int, expected: int, tmp_path: Path) -> None:
        image = Image.fromarray(np.full((16, 16), value, np.uint16))
        assert (self.pixels(image, tmp_path) == expected).all()

    def test_32_bits_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(BadPhoto, match="white is not known"):
            self.pixels(Image.new("F", (16, 16), 0.5), tmp_path, "a.tif")

    def test_cmyk(self, tmp_path: Path) -> None:
        pixels = self.pixels(Image.new("RGB", (16, 16), (200, 50, 50)).convert("CMYK"), tmp_path, "a.jpg", quality=95)
        assert np.abs(pixels[:, 0, 0].astype(int) - [200, 50, 50]).max() <= 6

    @pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.tif"])
    def test_of_several_frames_the_first(self, name: str, tmp_path: Path) -> None:
        frames = [Image.new("RGB", (16, 16), color) for color in ("red", "blue")]
        pixels = self.pixels(frames[0], tmp_path, name, save_all=True, append_images=frames[1:])
        assert pixels[0].min() > 240
        assert pixels[2].max() < 20

    def test_a_large_jpeg_is_decoded_smaller_and_looks_the_same(self, tmp_path: Path) -> None:
        """At most to twice the pixels that are needed: here to a half, where an eighth would lose the stripes."""
        stripes = np.where(np.arange(640) // 10 % 2, 220, 30)[None, :, None] * np.ones((480, 1, 3))
        image = Image.fromarray(stripes.astype(np.uint8))
        pixels = []
        for name in ("a.jpg", "a.png"):
            image.save(tmp_path / name, quality=95)
            pixels.append(read_photo(tmp_path / name, 56).pixels.numpy().astype(int))
        assert np.abs(pixels[0] - pixels[1]).mean() <= 3


class TestDamaged:
    def test_by_a_program_that_a_file_asks_for(self, tmp_path: Path) -> None:
        """EPS is PostScript, which Pillow gives to Ghostscript."""
        (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n")
        with pytest.raises(BadPhoto, match="not an image"):
            read_photo(tmp_path / "a.jpg", 16)

    @pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "AVIF"])
    def test_damaged_files_are_read_or_refused_and_nothing_else(self, format: str, tmp_path: Path, capfd) -> None:
        pixels = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
        if format == "AVIF" and not features.check("avif"):
            pytest.skip("this Pillow has no AVIF")
        buffer = BytesIO()
        Image.fromarray(pixels).save(buffer, format)
        sound = buffer.getvalue()
        rng = np.random.default_rng(1)
        refused = 0
        with photos.pillow_quiet():
            for _ in range(150):
                damaged = bytearray(sound)
                for place in rng.integers(0, min(len(damaged), 300), rng.integers(1, 4)):
                    damaged[place] = rng.integers(0, 256)
                (tmp_path / "a").write_bytes(damaged[: rng.integers(1, len(damaged) + 1)])
                try:
                    assert read_photo(tmp_path / "a", 16).pixels.shape[0] == 3
                except BadPhoto:
                    refused += 1
        assert refused > 20


class TestCopies:
    """Photos in other processes."""

    @pytest.fixture
    def images(self) -> PhotoImages:
        """Of three photos of different sizes, the second is not decoded yet."""
        images = PhotoImages(["a", "b", "c"], partial(torch.full, (3, 4, 5), dtype=torch.uint8))
        images.keep(0, torch.arange(3 * 2 * 7, dtype=torch.uint8).view(3, 2, 7))
        images.keep(2, torch.arange(3 * 6 * 2, dtype=torch.uint8).view(6, 2, 3).permute(2, 0, 1))
        return images

    @pytest.mark.parametrize("shared", [False, True])
    def test_a_pickled_copy_has_the_decoded_photos(self, images: PhotoImages, tmp_path: Path, shared: bool) -> None:
        with images.shared(tmp_path / "photos") if shared else nullcontext():
            data = pickle.dumps(images)
            copy = pickle.loads(data)
        assert list(tmp_path.iterdir()) == []
        for index in (0, 2):
            assert copy._cache[index].shape == images[index].shape
            assert torch.equal(copy[index], images[index])
        assert copy._cache[1] is None
        assert torch.equal(copy[1], torch.ones(3, 4, 5, dtype=torch.uint8))
        assert torch.equal(pickle.loads(pickle.dumps(copy))[1], copy[1])

    def test_shared_photos_are_not_copied(self, images: PhotoImages, tmp_path: Path) -> None:
        images.keep(1, torch.zeros(3, 500, 500, dtype=torch.uint8))
        with images.shared(tmp_path / "photos"):
            assert (tmp_path / "photos").stat().st_size == 3 * (14 + 12) + 750_000
            assert len(pickle.dumps(images)) < 2_000
        assert len(pickle.dumps(images)) > 750_000


def test_photos_of_phones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HEIC and AVIF are read as other photos are; without the plug-in the sentence has the install line."""
    import pillow_heif

    pillow_heif.register_heif_opener()
    green = Image.new("RGB", (40, 30), (0, 200, 0))
    for name, brand in (("photo.heic", "HEIF"), ("photo.avif", "AVIF")):
        green.save(tmp_path / name)
        photo = read_photo(tmp_path / name, 16)
        assert photo.format == brand
        torch.testing.assert_close(photo.pixels.float().mean((1, 2)), torch.tensor([0.0, 200.0, 0.0]), atol=8, rtol=0)
    monkeypatch.setattr(photos, "_formats", lambda: ["JPEG", "PNG"])
    for name, install in (("photo.heic", "labelsmooth[heic]"), ("photo.avif", "pillow>=11.3")):
        with pytest.raises(BadPhoto) as caught:
            read_photo(tmp_path / name, 16)
        assert (caught.value.kind, install in caught.value.reason) == ("format", True)
