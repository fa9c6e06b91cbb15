package lab

import (
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrPrefix means that the lab could not be called so.
	ErrPrefix = errors.New("lab prefix is not a DNS label")
	// ErrExists means that the lab is up, or that a crashed one has left something behind.
	ErrExists = errors.New("lab exists")
	// ErrNotUp means that there is no lab of that prefix.
	ErrNotUp = errors.New("lab is not up")
	// ErrNotRoot means that the caller may not make network namespaces.
	ErrNotRoot = errors.New("lab: needs root: run as root or with sudo")
)

// MissingToolError names a program that the lab runs and the host does not have.
type MissingToolError struct {
	Tool string
	// Package is the Debian package that has it.
	Package string
}

func (e *MissingToolError) Error() string {
	return fmt.Sprintf("lab: %s is not installed: apt-get install %s", e.Tool, e.Package)
}

// UnknownFaultError says that no fault has that name.
type UnknownFaultError struct {
	Name  string
	Known []string
}

func (e *UnknownFaultError) Error() string {
	return fmt.Sprintf("unknown fault %q: the faults are %s", e.Name, strings.Join(e.Known, ", "))
}
