// Package alibabatest is a small cloud that speaks the OpenAPI of Alibaba Cloud over
// HTTP, for tests: the actions that Plumbline calls, with signatures, versions,
// paging, throttling and errors, the metadata service of instances, and STS.
//
// Its resources are facts of simulator/cloud/alibaba, which tests change. An answer
// has all fields that are published for the action (openapi.txt), also those that
// nobody reads, with the account's number and other things in them that nobody is to
// find elsewhere. A fact in a field that is not published for the action, an action or
// a parameter that is not published, or that the server does not have, fails the test.
package alibabatest

//go:generate go run ./generate
