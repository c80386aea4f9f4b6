// Package sampling decides which traces are worth their place. By default it
// keeps everything and costs nothing.
//
//	request ─decode─► Head.KeepTrace: by the trace's id alone, before anything is stored
//	merge of blocks ─► Tail.Keep: by what the whole trace turned out to be
//
// Head sampling compares 56 bits of the trace's id with a threshold, as
// OpenTelemetry's consistent probability sampling does: whoever uses the same
// probability keeps the same traces, and a lower one keeps some of the traces that
// a higher one keeps. A limit of spans per second moves the threshold, so that
// traces are kept or dropped as a whole but for those that are under way when it
// moves.
//
// Tail sampling keeps errors, slow traces, a number of each operation in each
// hour, and a share of the rest by a hash of the id. It learns from the traces it
// is asked about; what it has learned is in memory alone, and operations of which
// it knows too little are kept.
//
// Invariants: a decision is a function of the trace and of what was learned
// before. Memory is bounded by maxOperations and maxTenants.
package sampling
