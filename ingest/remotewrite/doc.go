// Package remotewrite decodes Prometheus remote write requests, 1.0
// (prometheus.WriteRequest) and 2.0 (io.prometheus.write.v2.Request), straight
// from their bytes into the columns of signal.Metrics: no struct and no
// allocation per sample.
//
// A Request is one request on its way: it owns the decoded body, the batch made
// of it and the list of what was refused, and is meant to be pooled.
//
//	compressed ──snappy, size checked first──► body ──Decode──► Metrics + Rejects
//	                                             └──Parts────► compressed (only what was accepted)
//
// Two kinds of bad input are told apart. Bytes that are not the message they
// claim to be, or that are larger than allowed, refuse the whole request
// (wire.SyntaxError, wire.SizeError). A well-formed request with a bad series, sample or
// exemplar (wire.InvalidError) keeps its good part: what is bad is left out of the
// batch and counted in Rejects.
//
// What a door has accepted must come out of the buffer again exactly, even when
// limits have changed or time has passed. So limits apply at the door only: when
// anything was refused, Parts writes a body that holds just the accepted
// messages, copied, not re-encoded, and a replay decodes it without limits.
//
// Labels keep their bytes: the label part of a well-behaved 1.0 series is its
// canonical form (internal/labels) already and is hashed where it lies. Any
// other label set is sorted, freed of empty values and written anew behind the
// body.
//
// One extension: a 1.0 sample's field 3 and a histogram's field 17 are read as
// the start timestamp, which is what they are in 2.0. Senders of 1.0 do not set
// them, receivers skip them; Vedette's own scraper writes them.
package remotewrite
