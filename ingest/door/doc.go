// Package door takes metrics in: the remote write endpoint, and the same way in
// for sources inside the process.
//
//	body ──size and memory checked──► decode, validate ──► split by partition
//	                                                            │ payload + Delivery
//	answer ◄── what the store did ◄── wait (bounded) ◄── durable in the buffer
//
// A request is answered with success only when its payload is durable in the
// buffer. The door then waits a moment for the store, so that what was
// acknowledged can be queried and samples that the store refuses are reported;
// if the store is behind, the answer does not wait for it.
//
// Memory is bounded: bodies, what they decode to, and batches that wait for the
// store are charged to one budget, and requests beyond it wait shortly and are
// then refused with 503. The good part of a request is kept when another part
// is bad; the answer is then 400 with the first reason.
package door
