#!/bin/sh
# Makes the component hello-python.wasm of src/; `coracle deploy` runs this.
set -eu

[ -x .venv/bin/pip ] || python3 -m venv .venv
.venv/bin/pip install --quiet --requirement requirements.txt

# The interfaces of WASI come with this package. Nothing else of it is used, so it stays out of Python's way.
wasi=.venv/spin-sdk-5.0.0
[ -d $wasi ] || .venv/bin/pip install --quiet --no-deps --target $wasi spin-sdk==5.0.0

VIRTUAL_ENV=.venv .venv/bin/componentize-py --quiet \
    --wit-path $wasi/spin_sdk/wit --wit-path world.wit --world local:function/function \
    componentize --python-path src --output hello-python.wasm handler
