"""The programs that machines are made with. They are installed in a private directory, without root."""

from engine.build.toolchain.build import build_toolchain, load_toolchain, toolchain_key
from engine.build.toolchain.recipe import ToolchainError
from engine.build.toolchain.system import system_tools

__all__ = ["ToolchainError", "build_toolchain", "load_toolchain", "system_tools", "toolchain_key"]
