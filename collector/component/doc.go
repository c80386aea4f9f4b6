// Package component makes the agent's sources into components of the
// OpenTelemetry Collector, so that they can be put into anybody's build.
//
//	prometheus.Collectors of a source ──gathered at an interval──► pmetric ──► next consumer
//	OTLP requests of a source ──────────decoded──────────────────► plog, ptrace ──► next consumer
//
// Every component has a package below this one with a NewFactory, as the
// Collector's builder wants it. Their configurations are those of the sources, with
// the same keys and the same strictness: an unknown key is an error.
//
// Names of metrics and labels stay as the source has them, so that what arrives
// through OTLP is what a scrape would have brought: the resource has service.name for
// the label job and service.instance.id for instance.
package component
