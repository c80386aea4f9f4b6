// Package enginetest runs real container engines for tests: Docker's dockerd and
// containerd, with runc below them, from the PATH or from where make test-tools
// unpacks them.
//
// An engine has directories, sockets and a containerd of its own, and containers
// are made from an image that holds one static program (testdata/guest), so
// that neither a network nor a registry is needed. What it does share with the
// machine are the kernel's cgroups, at the paths that the engine would use on any
// host: /docker/<id>, /<namespace>/<id> and what a pod asks for.
//
// With the test go its containers, the engine, their shims, mounts and cgroups. A
// test is skipped where a program or a right is missing.
package enginetest
