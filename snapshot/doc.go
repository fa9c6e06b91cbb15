// Package snapshot carries the state of nodes from agents to a controller, as
// content: what a node's bundle consists of, file by file, each known by its
// SHA-256. A Manifest lists them; a Server hands out the manifest and the blobs
// that it names; a Client fetches the blobs that nobody has fetched yet.
//
// There are no times in a manifest. State that was read again and found to be as
// before is the same manifest, and the answer says how old it is: an age, by the
// agent's monotonic clock, so that a wrong clock there does no harm.
//
// Errors: Fetch returns a new State as a whole or an error, and an error changes
// nothing. What is not what its hash says, or beyond the limits, is an error.
package snapshot
