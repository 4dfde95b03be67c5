#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes /opt/ayaflow in a stage of the Containerfile: a virtual environment with our wheel and one extra of it,
# without what only developers of the libraries use.
#
#   environment.sh EXTRA
set -eu
extra=$1
place=/opt/ayaflow
python3 -m venv --system-site-packages --without-pip $place
pip="/tools/bin/pip --python $place/bin/python"
$pip install --quiet --no-cache-dir --no-compile --require-hashes -r "deploy/requirements/$extra.txt"
$pip install --quiet --no-cache-dir --no-compile --no-index --no-deps /wheel/ayaflow-*.whl
$pip check
cd $place/lib/python3*/site-packages
find . -type d \( -name tests -o -name test \) -prune -exec rm -rf {} +
find . -type f \( -name '*.pyx' -o -name '*.pxd' -o -name '*.pxi' -o -name '*.pyi' -o -name '*.c' -o -name '*.h' -o -name '*.hpp' -o -name '*.a' \) \
    ! -path './bpf/*' -delete
rm -rf numpy/f2py numpy/_core/include numpy/random/lib pyarrow/include pyarrow/includes pyarrow/src
# Arrow's clients of object stores and of other Arrow servers
rm -f pyarrow/libarrow_flight* pyarrow/libarrow_python_flight* pyarrow/_flight* pyarrow/libarrow_s3* pyarrow/_s3fs* pyarrow/_pyarrow_cpp_tests*
# its files: Parquet, ORC, data sets of them, plans of other engines. Its core is linked with three of these libraries
# and calls none
if [ -d pyarrow ]; then
    rm -f pyarrow/_parquet* pyarrow/_dataset* pyarrow/_substrait* pyarrow/_orc* pyarrow/_hdfs* pyarrow/_gcsfs* pyarrow/_azurefs*
    for unused in pyarrow/libparquet.so.* pyarrow/libarrow_dataset.so.* pyarrow/libarrow_substrait.so.*; do
        [ ! -L "$unused" ] || continue
        echo | gcc -shared -nostdlib -x c - -Wl,-soname,"$(basename "$unused" | cut -d. -f1-3)" -o "$unused"
    done
fi
# three copies of one file in the wheel, which knows no links
for long in pyarrow/*.so.*.*.*; do
    [ -e "$long" ] || continue
    for short in "${long%.*.*}" "${long%.*.*.*}"; do ln -sf "$(basename "$long")" "$short"; done
done
# of plotly only its JavaScript is served
if [ -d plotly ]; then
    mv plotly/package_data/plotly.min.js /tmp/
    rm -rf plotly/*
    $pip uninstall --quiet --yes narwhals
    mkdir plotly/package_data
    mv /tmp/plotly.min.js plotly/package_data/
    echo '"""Only its JavaScript is in this image."""' > plotly/__init__.py
fi
# Confluent's client of schema registries imports OAuth, and with it a library of ciphers, which only the producer's
# reader of QUIC needs: ours log in by a password
case $extra in
    streams | console)
        rm -rf bpf/objects
        $pip uninstall --quiet --yes authlib joserfc cryptography cffi pycparser
        mkdir -p authlib/integrations
        touch authlib/__init__.py authlib/integrations/__init__.py
        cat > authlib/integrations/httpx_client.py <<'END'
"""In the place of authlib in this image."""


class OAuth2Client:
    """None."""

    def __init__(self, *_: object, **__: object) -> None:
        raise NotImplementedError("there is no OAuth for schema registries in this image")


AsyncOAuth2Client = OAuth2Client
END
        ;;
esac
# rich's colours of source text, which nobody prints
if [ -d pygments ]; then
    find pygments/lexers -name '*.py' ! -name __init__.py ! -name _mapping.py ! -name special.py ! -name python.py -delete
fi
rm -rf _plotly_utils
/src/deploy/images/blas-leftovers/make.sh .
rm -rf $place/share
rm -f numpy/_core/_simd.* numpy/_core/*_tests.*.so
# not what wheels had patched to find libraries of their own (NAME.libs): strip would tear it
find . -name '*.so*' -type f ! -path './*.libs/*' ! -path './numpy/*' ! -path './confluent_kafka/*' -exec strip --strip-unneeded {} +
# byte code of what a health check imports, and of ours; that of all else is 20 to 30 MB, and spares a start 0.3 s
$place/bin/python -m compileall -q --invalidation-mode unchecked-hash yaml bpf cli common console deploy producer schemas streams
