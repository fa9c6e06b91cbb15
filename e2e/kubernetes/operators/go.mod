// Operators whose kinds the chart may make objects of: tests take the definitions of the
// kinds from their modules, and nothing is built of them.
module operators

go 1.26.0

require (
	github.com/cert-manager/cert-manager v1.21.2
	github.com/prometheus-operator/prometheus-operator v0.85.0
)
