#!/usr/bin/env bash
# Copies the dashboards and rules into the chart: Helm reads no file outside of it. `make generate` runs this.
set -euo pipefail
cd "$(dirname "$0")/.."

files=charts/plumbline/files
rm -rf "$files"
mkdir -p "$files/rules"
cp dashboards/*.json "$files/"
cp dashboards/rules/plumbline.yaml "$files/rules/"
