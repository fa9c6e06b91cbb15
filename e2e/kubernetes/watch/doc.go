// Package watch holds the watcher of package kubernetes against a real API
// server and etcd: objects in numbers, custom resources that come and go, cut
// connections, a server that dies and returns, and accounts that may not read all.
// make test-k8s builds the API server and runs these tests, with the tag k8s; nothing else does.
package watch
