// Package monitoring tests Plumbline as it is watched: a real Prometheus scrapes
// a real daemon that diagnoses the lab, with the rules and the dashboard of this
// repository, and a real Alertmanager tells of what is broken in the lab.
//
// The tests need root, and Debian's packages prometheus and
// prometheus-alertmanager. Everything listens on loopback, on free ports.
package monitoring
