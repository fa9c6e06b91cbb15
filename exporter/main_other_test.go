//go:build !linux

package exporter

func serveAsListener() {} // there are no labs
