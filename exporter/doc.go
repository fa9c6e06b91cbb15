// Package exporter is the daemon: it keeps a recent view of the network, runs
// the schedules, and answers over HTTP, in JSON for people and scripts and as
// metrics for Prometheus.
//
// Errors of [New] are the operator's to correct: a configuration, an address
// to listen on, a certificate. Whatever fails later, such as collecting, is
// logged and exported, and the daemon goes on with what it has.
//
// The daemon listens on loopback unless told otherwise, and refuses to listen
// elsewhere without authentication: what it shows is the inside of a network.
package exporter
