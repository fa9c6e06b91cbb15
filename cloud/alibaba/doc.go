// Package alibaba reads from the OpenAPI of Alibaba Cloud what joins the nodes: the
// facts of simulator/cloud/alibaba.
//
// A Reader keeps what it has read, and asks again for what is older than its kind may
// be. It asks for the VPCs that the nodes are in, and for no more where the API can
// select. One action that fails does not hurt the others: it is in the facts'
// Failed, with what the API said.
//
// No error, and nothing in the facts, has credentials in it, or the number of an
// account.
//
// Requests are made by the SDK's generic client and not by its typed packages: the
// facts have types of their own, which are strict, and the five packages take 85 s
// and 1.8 GB to compile, where the generic client takes 5 s and 0.2 GB.
package alibaba
