"""Streams: audio in and tokens out as they come, and back; one at a time, or many in one batch."""

from .decode import DecodeBatch, DecodeStream
from .encode import EncodeBatch, EncodeStream

__all__ = ["DecodeBatch", "DecodeStream", "EncodeBatch", "EncodeStream"]
