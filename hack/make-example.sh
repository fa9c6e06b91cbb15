#!/usr/bin/env bash
# Makes examples/lab.tar.zst: the lab with a dropping rule and a dead backend.
# As root.
set -euo pipefail
cd "$(dirname "$0")/.."

make --no-print-directory build
plumbline=bin/plumbline
prefix=example
$plumbline lab down --prefix $prefix
trap '$plumbline lab down --prefix $prefix' EXIT
$plumbline lab up --prefix $prefix
$plumbline lab break --prefix $prefix drop-rule
$plumbline lab break --prefix $prefix backend-dead
rm -f examples/lab.tar.zst
$plumbline collect --namespaces "$prefix-*" --manifests /run/plumbline/lab/$prefix/cluster --output examples/lab.tar.zst
