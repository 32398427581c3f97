"""Every kind of file becomes the right 8-bit RGB pixels."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from torchvision.transforms import InterpolationMode
from torchvision.transforms import v2 as transforms

from featherweight.data.decode import decode_square, inspect_picture
from featherweight.data.pictures import to_eight_bit
from featherweight.networks.preprocessing import Preprocessing


def content_of(image, form="PNG", **options):
    stream = BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def square(image, form="PNG", **options):
    content = content_of(image, form, **options)
    assert inspect_picture(content).error is None
    return decode_square(content, size=min(image.size))


def noise(width, height, *, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_grey_is_repeated():
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    assert (square(Image.fromarray(grey)) == grey[:, :, None]).all()


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_not_clipped(form):
    wide = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    expected = np.rint(wide / 257)
    assert np.abs(square(Image.fromarray(wide), form)[:, :, 0] - expected).max() <= 1


@pytest.mark.parametrize("value", [np.float32(0.5), np.int32(100_000)])
def test_pixels_without_a_known_white_are_broken(value):
    content = content_of(Image.fromarray(np.full((4, 4), value)), "TIFF")
    assert "no known white" in inspect_picture(content).error


def test_cmyk_becomes_the_colour_it_prints():
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    pixel = square(red, "JPEG", quality=95)[8, 8].astype(int)
    assert pixel[0] > 240
    assert pixel[1:].max() < 15


def test_transparency_lies_on_white():
    layered = Image.new("RGBA", (4, 4), (200, 0, 0, 0))
    layered.putpixel((0, 0), (200, 0, 0, 255))
    pixels = square(layered)
    assert pixels[0, 0].tolist() == [200, 0, 0]
    assert pixels[1, 1].tolist() == [255, 255, 255]


@pytest.mark.parametrize("transparency", [0, bytes([0, 255])])
def test_palette_with_transparency(transparency):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((0, 0), 0)
    pixels = square(image, transparency=transparency)
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[1, 1].tolist() == [40, 50, 60]


def test_exif_rotation_is_applied():
    image = Image.new("RGB", (32, 16), (0, 0, 255))
    image.paste((255, 0, 0), (0, 0, 16, 16))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise: the left half is on top
    upright = to_eight_bit(Image.open(BytesIO(content_of(image, "JPEG", exif=exif, quality=95))))
    assert upright.size == (16, 32)
    assert upright.getpixel((8, 4))[0] > 200
    assert upright.getpixel((8, 28))[2] > 200


def test_crops_are_cut_from_pictures_no_finer_than_the_square(monkeypatch):
    """A JPEG of 400 pixels for a square of 160: half of it is decoded, not all."""
    asked = []
    draft = JpegImageFile.draft
    monkeypatch.setattr(
        JpegImageFile, "draft", lambda image, mode, size: asked.append(draft(image, mode, size))
    )
    content = content_of(Image.linear_gradient("L").resize((400, 400)), "JPEG", quality=95)
    whole = decode_square(content, size=160, whole=True)
    centre = decode_square(content, size=160)
    assert asked[0] is not None
    assert asked[0][1] == (0, 0, 200.0, 200.0)
    assert asked[1][1] == (0, 0, 400.0, 400.0)
    assert np.abs(whole.astype(int) - centre).max() <= 6


@pytest.mark.parametrize(("orientation", "aspect"), [(1, 2.0), (3, 2.0), (6, 0.5), (8, 0.5)])
def test_the_aspect_is_that_of_the_upright_picture(orientation, aspect):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = content_of(noise(64, 32), "JPEG", exif=exif)
    assert inspect_picture(content).aspect == aspect
    assert inspect_picture(content_of(noise(64, 32))).aspect == 2.0


def test_a_whole_picture_is_squeezed_and_only_the_ends_of_a_long_one_are_cut():
    picture = noise(96, 64)
    squeezed = decode_square(content_of(picture), size=32, whole=True)
    expected = np.asarray(picture.resize((32, 32), Image.Resampling.BILINEAR))
    assert np.abs(squeezed.astype(int) - expected).max() <= 1
    strip = noise(640, 64)
    centre = strip.crop((256, 0, 384, 64))
    ends_off = decode_square(content_of(strip), size=32, whole=True)
    assert (ends_off == decode_square(content_of(centre), size=32, whole=True)).all()


def test_unreadable_exif_is_no_rotation():
    image = noise(16, 8)
    content = content_of(image, "JPEG", exif=b"Exif\0\0garbage garbage")
    assert inspect_picture(content).error is None
    assert decode_square(content, size=8).shape == (8, 8, 3)


@pytest.mark.parametrize("cut", [0.2, 0.6, 0.95])
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_truncated_files_are_found(form, cut):
    content = content_of(noise(160, 120), form)
    assert inspect_picture(content[: int(len(content) * cut)]).error


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("shape", [(61, 47), (47, 61), (40, 40), (20, 33), (47, 90)])
@pytest.mark.parametrize("fraction", [1.0, 0.875])
def test_resize_and_crop_are_torchvisions(shape, interpolation, fraction):
    image = noise(*shape)
    reference = transforms.Compose(
        [
            transforms.Resize(
                round(32 / fraction), InterpolationMode(interpolation), antialias=True
            ),
            transforms.CenterCrop(32),
        ]
    )
    preprocessing = Preprocessing(interpolation=interpolation, crop_fraction=fraction)
    found = decode_square(content_of(image), size=32, preprocessing=preprocessing)
    assert (found == np.asarray(reference(image))).all()


def test_reduced_decoding_of_large_jpegs_is_hardly_seen():
    coarse = noise(20, 30).resize((800, 1200), Image.Resampling.BICUBIC)
    content = content_of(coarse, "JPEG", quality=92)
    exact = decode_square(
        content_of(Image.open(BytesIO(content)), compress_level=0), size=96
    ).astype(int)
    assert np.abs(decode_square(content, size=96) - exact).mean() < 1.0


@pytest.mark.parametrize("shape", [(3000, 2), (1, 3000)])
def test_a_strip_does_not_explode(shape):
    assert decode_square(content_of(noise(*shape)), size=64).shape == (64, 64, 3)


def test_a_decompression_bomb_is_refused(monkeypatch):
    content = content_of(noise(20, 20))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert "decompression bomb" in inspect_picture(content).error
    with pytest.raises(ValueError, match="decompression bomb"):
        decode_square(content, size=8)
