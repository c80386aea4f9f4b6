// Package gen makes remote write 1.0 traffic out of recorded node_exporter
// scrapes: any number of targets for any number of scrapes, the same bytes for
// every peer.
//
//	recording (38 scrapes, 507 series)
//	    └─ LoadRecording ─► shapes: constant | counter | gauge | noisy duration
//	                           └─ Target (own seed) ─► one value a series and scrape
//	                                 └─ WriteSpool ─► file of snappy bodies, scrape after scrape
//
// A target exposes SeriesPerTarget series: what was recorded, a latency
// histogram of the application kind, and the series that a scraper adds itself.
// Nothing repeats literally: constants stay as they are, counters take the
// recorded increments in a seeded random order, gauges walk by recorded steps
// within the recorded range, and durations are recorded values times fresh
// noise; all of them keep the number of decimals that was recorded, since that is
// what decides how well a store may compress them.
//
// Bodies are written ahead of a run, so that the client which sends them costs
// next to nothing while a server is measured.
package gen
