// Package gather writes what collectors of this process measure, as if somebody
// scraped them: at every interval each job's registry is gathered, its series
// get the labels job and instance, and one remote write request goes to the door.
//
//	host, containers, eBPF ─► Registry of a job ─Gather─► families ─exposition─► door.Entry
//
// As with a scrape there are up, scrape_duration_seconds and
// scrape_samples_scraped of every job, and a series that is not there any more
// ends with a staleness marker.
//
// Invariants: jobs run in goroutines of their own, so that one that hangs does
// not hold the others up; a gather that takes longer than the interval skips the
// next one. What the door refuses for now is lost for that moment, as a failed
// scrape is.
package gather
