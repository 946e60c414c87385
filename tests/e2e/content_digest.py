"""BLAKE3 for the tests' own servers: the C sources that cairn is built from, in a library."""
import ctypes

from harness import HELPERS

# More than the hasher of any version so far.
HASHER_BYTES = 4096
_library = None


def _blake3():
    global _library
    if _library is None:
        _library = ctypes.CDLL(str(HELPERS / "libblake3_test.so"))
        _library.blake3_hasher_update.argtypes = [
            ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
        _library.blake3_hasher_finalize.argtypes = [
            ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
    return _library


def digest_of(data):
    """The 32 bytes that name this content."""
    library = _blake3()
    hasher = ctypes.create_string_buffer(HASHER_BYTES)
    out = ctypes.create_string_buffer(32)
    library.blake3_hasher_init(hasher)
    library.blake3_hasher_update(hasher, data, len(data))
    library.blake3_hasher_finalize(hasher, out, 32)
    return out.raw
