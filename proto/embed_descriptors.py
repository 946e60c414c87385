#!/usr/bin/python3
"""What the services are, as bytes for the daemon's reflection.

Compiles the .proto files, those of a castore a second time under snix's names, those of reflection
under its older name too, and writes one FileDescriptorSet as a C array. Files are named by their
packages, so that all of them fit into one pool of descriptors.

usage: embed_descriptors.py PROTOC SOURCE_FOLDER OUTPUT.c
"""
import pathlib
import subprocess
import sys
import tempfile

CASTORE = ["castore.proto", "rpc_castore.proto"]
STORE = ["pathinfo.proto", "rpc_store.proto"]
# Where a file goes, and what becomes of package names in it.
PLACES = [
    *((name, f"{project}/castore/v1/{name}", "tvix.", f"{project}.")
      for name in CASTORE for project in ("tvix", "snix")),
    *((name, f"{project}/store/v1/{name}", "tvix.", f"{project}.")
      for name in STORE for project in ("tvix", "snix")),
    ("cairn.proto", "cairn/v1/cairn.proto", "", ""),
    ("health.proto", "grpc/health/v1/health.proto", "", ""),
    ("reflection.proto", "grpc/reflection/v1/reflection.proto", "", ""),
    ("reflection.proto", "grpc/reflection/v1alpha/reflection.proto",
     "grpc.reflection.v1;", "grpc.reflection.v1alpha;"),
]


def place_imports(text, project):
    for name in CASTORE:
        text = text.replace(f'import "{name}"', f'import "{project}/castore/v1/{name}"')
    for name in STORE:
        text = text.replace(f'import "{name}"', f'import "{project}/store/v1/{name}"')
    return text


def compile_set(protoc, source, folder):
    for name, place, old, new in PLACES:
        text = (source / name).read_text(encoding="utf-8")
        if old:
            text = text.replace(old, new)
        project = "snix" if place.startswith("snix/") else "tvix"
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(place_imports(text, project), encoding="utf-8")
    output = folder / "set"
    files = [place for _, place, _, _ in PLACES]
    subprocess.run([protoc, f"-I{folder}", f"--descriptor_set_out={output}", *files], check=True)
    return output.read_bytes()


def main():
    protoc, source, output = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    with tempfile.TemporaryDirectory() as folder:
        data = compile_set(protoc, source, pathlib.Path(folder))
    lines = [", ".join(str(b) for b in data[i:i + 24]) for i in range(0, len(data), 24)]
    output.write_text(
        "#include <stddef.h>\n#include <stdint.h>\n\n"
        "extern const uint8_t proto_descriptors[];\nextern const size_t proto_descriptors_size;\n"
        f"const size_t proto_descriptors_size = {len(data)};\n"
        "const uint8_t proto_descriptors[] = {\n" + ",\n".join(lines) + "};\n",
        encoding="utf-8")


if __name__ == "__main__":
    main()
