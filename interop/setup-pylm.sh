#!/bin/sh
# Installs pylm 0.14.4 from PyPI into a virtual environment, for `run.py`. Needs python3 and the network.
#
#   interop/setup-pylm.sh VENV [pure|upb]
#
# pylm is of 2017, and so is the code for its messages, which protobuf has refused since its version 4:
#   pure   the last protobuf that takes it, slow, pylm untouched
#   upb    a current, fast protobuf, and that code made anew from our `proto/` (the default)
set -eu

venv=${1:?usage: setup-pylm.sh VENV [pure|upb]}
variant=${2:-upb}
proto=$(cd "$(dirname "$0")/../proto" && pwd)

case $variant in
    pure) protobuf='protobuf==3.20.3' ;;
    upb) protobuf='protobuf==5.29.6 grpcio-tools==1.71.2' ;;
    *) echo "no such variant: $variant" >&2; exit 2 ;;
esac

python3 -m venv "$venv"
python="$venv/bin/python"

# pylm's setup.py needs a setuptools that still has pkg_resources, also where pip builds it apart.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo 'setuptools<81' > "$work/constraints"
export PIP_CONSTRAINT="$work/constraints" PIP_DISABLE_PIP_VERSION_CHECK=1
# shellcheck disable=SC2086  # several words are meant
"$python" -m pip install --quiet pylm==0.14.4 pyzmq==27.3.0 requests==2.34.2 $protobuf

if [ "$variant" = upb ]; then
    parts=$("$python" -c 'import importlib.util as u; print(u.find_spec("pylm").submodule_search_locations[0])')/parts
    # Without the package: pylm's message has none.
    sed '/^package /d' "$proto/palm.proto" > "$work/messages.proto"
    "$python" -m grpc_tools.protoc --proto_path="$work" --python_out="$parts" messages.proto
fi

"$python" - <<'PYTHON'
import pylm, pylm.clients, pylm.servers, zmq
print(f'pylm {pylm.__version__} is ready, with libzmq {zmq.zmq_version()}')
PYTHON
