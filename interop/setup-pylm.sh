#!/usr/bin/env bash
# Installs pylm 0.14.4, the peer that interop tests run against, into a virtual environment.
#
#   interop/setup-pylm.sh VENV [upb|pure]
#
# upb (default): a current protobuf. pylm's message module is generated from proto/palm.proto, because protobuf 4 and
# later reject the module that pylm contains. pure: unchanged pylm, with a protobuf of its time.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:?usage: interop/setup-pylm.sh VENV [upb|pure]}
variant=${2:-upb}

if [ -x "$venv/bin/python" ] && "$venv/bin/python" -c 'import pylm.servers, zmq' 2>/dev/null; then
    echo "pylm is there"
    exit 0
fi
case $variant in
upb) protobuf=(protobuf==5.29.6 grpcio-tools==1.71.2) ;;
pure) protobuf=(protobuf==3.20.3) ;;
*)
    echo "unknown variant: $variant" >&2
    exit 2
    ;;
esac

python3 -m venv "$venv"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# pylm is distributed as source only, and its build needs a setuptools that still has pkg_resources.
echo 'setuptools<81' >"$work/constraints"
PIP_CONSTRAINT=$work/constraints "$venv/bin/pip" install --quiet --disable-pip-version-check \
    pylm==0.14.4 pyzmq==27.3.0 requests "${protobuf[@]}"

if [ "$variant" = upb ]; then
    parts=$("$venv/bin/python" -c 'import os, pylm; print(os.path.join(os.path.dirname(pylm.__file__), "parts"))')
    # pylm expects the message without a package, in a file of this name.
    grep -v '^package' proto/palm.proto >"$work/messages.proto"
    "$venv/bin/python" -m grpc_tools.protoc "-I$work" "--python_out=$parts" messages.proto
fi
"$venv/bin/python" -c 'import pylm.servers, pylm.clients, zmq; print("pylm", pylm.__version__, "on libzmq", zmq.zmq_version())'
