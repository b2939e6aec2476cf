"""The guest image and the initramfs that boots it."""

from engine.build.image.build import Image, build_image, load_image
from engine.build.image.initramfs import build_initramfs, initramfs_key
from engine.build.image.recipe import ImageError, image_key

__all__ = ["Image", "ImageError", "build_image", "build_initramfs", "image_key", "initramfs_key", "load_image"]
