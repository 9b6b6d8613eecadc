"""Builds the native modules: every `shuffle_worker/_native/*.pyx` is one extension.

EXT=name,name       build only these (all when unset).
SANITIZE=address    build with a sanitizer (address, undefined, thread); combine with commas.
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

ROOT = Path(__file__).parent
NATIVE = Path("shuffle_worker/_native")
ONLY = {name for name in os.environ.get("EXT", "").split(",") if name}
SANITIZERS = os.environ.get("SANITIZE", "")
# SSE4.2 brings the CRC32C instruction; every x86-64 server since 2009 has it. Other machines use the tables.
MACHINE = ["-msse4.2"] if os.uname().machine == "x86_64" else []
FLAGS = ["-O3", "-fno-strict-aliasing", "-Wall", "-Wno-unused-function", *MACHINE]
LINK = ["-pthread"]
if SANITIZERS:
    FLAGS += ["-O1", "-g", "-fno-omit-frame-pointer", f"-fsanitize={SANITIZERS}", "-fno-sanitize-recover=undefined"]
    LINK += [f"-fsanitize={SANITIZERS}"]


def extension(path: Path) -> Extension:
    text = path.read_text(encoding="utf-8")
    cpp = "distutils: language = c++" in text.partition("\nimport")[0]
    headers = [str(header.relative_to(ROOT)) for header in sorted((ROOT / NATIVE).glob("*.h"))]
    return Extension(
        f"shuffle_worker._native.{path.stem}",
        [str(path.relative_to(ROOT))],
        depends=headers,
        include_dirs=[str(NATIVE)],
        extra_compile_args=FLAGS + (["-std=c++17"] if cpp else ["-std=gnu11"]),
        extra_link_args=LINK,
        language="c++" if cpp else None,
    )


sources = [path for path in sorted((ROOT / NATIVE).glob("*.pyx")) if not ONLY or path.stem in ONLY]
setup(
    options={"build_ext": {"parallel": os.cpu_count() or 1}},
    ext_modules=cythonize(
        [extension(path) for path in sources],
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": False,
            "embedsignature": True,
        },
    ),
)
