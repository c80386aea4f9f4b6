// Package scrape pulls metrics from exporters with Prometheus's own scraper and
// hands them to the door that remote write comes in by.
//
// Discovery and scraping are Prometheus's, configured in its syntax; discovery.go
// says which discoveries are linked in. What a scrape appends is written as a
// remote write 1.0 request while it is parsed: the labels of a series are kept in
// canonical form, which is the wire form, under the reference that the scraper
// passes back, so a steady scrape copies bytes and formats nothing. Commit
// compresses the request and gives it to the door, which validates and stores it
// as any other; a scrape is durable when Commit returns.
//
//	target ─► scrape loop ─Append─► request under construction ─Commit─► door ─► buffer
//
// Start (created) timestamps travel in a field of the 1.0 sample that only
// Vedette reads, see ingest/remotewrite.
//
// The appender keeps the contract of Prometheus's: a sample that is older than
// the series' last one is refused where the scraper asks for that, which keeps
// staleness markers of a replaced target out; the same timestamp twice is a
// duplicate. Other samples that are out of order are the store's to judge.
package scrape
