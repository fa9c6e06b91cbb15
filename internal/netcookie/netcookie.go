// Package netcookie reads the cookie of a network namespace: a number that the kernel gives to each namespace and, unlike the inode of the
// namespace file, never gives to another one while the kernel runs. It is the key by which eBPF programs and the rest of Plumbline agree on
// which namespace is meant.
//
// Needs Linux 5.14. Elsewhere every function returns an error that wraps [errors.ErrUnsupported].
package netcookie
