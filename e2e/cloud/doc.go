// Package cloud tests diagnoses through a cloud, with the whole product: the nodes of
// the lab are instances of a cloud whose API is that of alibabatest, which tests change.
package cloud
