// Package telemetry is how Vedette observes itself: structured logs (slog), own
// metrics (one Prometheus registry) and own spans (OpenTelemetry SDK).
//
// Everything is built from a configuration and handed to whoever needs it; the
// package keeps no state. Spans end in a Ring, a bounded buffer in memory that
// is served as JSON at /debug/traces; the newest spans push out the oldest, so
// its cost does not depend on load.
//
//	component ── *slog.Logger ─────► stderr
//	          ── Registerer ───────► GET /metrics
//	          ── TracerProvider ──► sampler ──► Ring ──► GET /debug/traces
package telemetry
