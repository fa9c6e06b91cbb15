// Package schedules reads the daemon's configuration and diagnoses its paths on
// schedule: selectors are expanded into paths at each run, verdicts are
// confirmed before they are published, and what changed when is remembered.
//
// It neither collects nor simulates: a [Source] hands it views of the network.
// It exports no metrics either: [Runner.Status] is a consistent copy of
// everything that there is to export.
//
// Errors in a configuration name file, line and token. A configuration is
// accepted or refused as a whole.
package schedules
