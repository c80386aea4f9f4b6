// Package feature is what the parts of the eBPF probe have in common.
//
// A Feature is one small collection of programs that is probed by loading it,
// down its own ladder of ways (Climb), and that exports metrics. Its counts are
// kept by the kernel for each process; Ledger folds processes into services and
// keeps the counts of those that are gone. Buckets are histograms whose bounds
// the kernel splits exactly. Call is a request that has ended, for spans.
//
// Package probe loads features and keeps them; each feature has a package beside
// this one, and featuretest drives them in tests.
package feature
