"""The guest image and the initramfs that boots it."""

from engine.image.build import Image, build_image, load_image
from engine.image.initramfs import build_initramfs, initramfs_key
from engine.image.recipe import ImageError, image_key

__all__ = ["Image", "ImageError", "build_image", "build_initramfs", "image_key", "initramfs_key", "load_image"]
