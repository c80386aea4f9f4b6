// Package wire is what the decoders of all wire formats share: walking protobuf
// without structs, what all requests of OTLP have in common (otlp.go), limits and
// the reasons for which a part of a request is refused, the account of a decode's
// memory, and the parts into which a decoded request is divided for the partitions
// of the buffer.
//
//	payload ─Decoder.Decode─► Decoded (batch + rejects) ─Decoder.Parts─► payloads with their batches
package wire
