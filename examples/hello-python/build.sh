#!/bin/sh
# Makes the component hello-python.wasm of src/: `coracle deploy` runs this.
set -eu

[ -d .venv ] || python3 -m venv .venv
.venv/bin/pip install --quiet --requirement requirements.txt
# The interfaces of WASI come with this package. Nothing else of it is used, so it stays out of Python's way.
[ -d .venv/wit ] || .venv/bin/pip install --quiet --no-deps --target .venv/wit spin-sdk==5.0.0

VIRTUAL_ENV=.venv .venv/bin/componentize-py --quiet \
    --wit-path .venv/wit/spin_sdk/wit --wit-path world.wit --world local:function/function \
    componentize --python-path src --output hello-python.wasm handler
