// Package exposition turns what a Prometheus client exposes, metric families,
// into remote write requests.
//
//	MetricFamily ─AppendSeries─► []Series ─Requests.Add─► payloads of about a megabyte
//	                                │
//	                               Set ─Gone─► series to end with Requests.Stale
//
// The series are those that a Prometheus scraper makes of the same exposition:
// a summary becomes a series per quantile, _sum and _count; a classic histogram
// a series per bucket (with le="+Inf"), _sum and _count; a histogram with native
// buckets one series of native histograms. Labels are canonical
// (internal/labels), and le and quantile are written as OpenMetrics writes
// floats: 1.0, 0.25, 1e+06.
package exposition
