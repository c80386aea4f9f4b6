// Package clustertest runs a real Kubernetes cluster of one node for tests: etcd,
// kube-apiserver, kubelet, containerd and runc, all on the loopback, in a directory
// and below a control group of the test's own, which go with the test.
//
// There is no scheduler, no controller manager and no network plugin: a test says
// which node a pod is for (spec.nodeName), makes by hand what a controller would (a
// ReplicaSet of a Deployment, an Endpoints of a Service), and its pods are in the
// host's network. [Start] makes what every namespace of a cluster has: the service
// account default and the certificate of the API server.
//
//	test ── REST ──> kube-apiserver ──> etcd
//	                      ^
//	                   kubelet ── CRI ──> containerd ──> runc ──> app
//
// The programs of Kubernetes come from its Go modules, by the module in the folder
// kubernetes; `make test-cluster` builds them and runs the tests. Without the
// variable that it sets, [Start] skips the test.
package clustertest
