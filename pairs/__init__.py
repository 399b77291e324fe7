"""The pairs workstation: a folder is a family and a floor. See docs/architecture.md."""

__version__ = "0.2.0"
