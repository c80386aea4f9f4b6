// Package lint holds the rules about this repository that a machine can check,
// written as tests: which folder may import which, names and sizes of packages
// and files, package comments, the words of the Makefile, links in the
// documents. It has no code of its own; run it with go test ./internal/lint.
//
// The table of import arrows is in arrows_test.go and in docs/architecture.md;
// both change in one commit, with an ADR if an arrow turns.
package lint
