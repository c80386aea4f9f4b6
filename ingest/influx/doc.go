// Package influx takes metrics in InfluxDB line protocol, as Telegraf and the
// client libraries of InfluxDB 1.x and 2.x write them.
//
//	body ──parser──► lines ──mapper──► series of a remote write request ──► door.Entry
//	           └─ refused one by one, the first is named in the answer
//
// Every numeric or boolean field of a line becomes a sample of the series
// <measurement><separator><field>, with the line's tags and the database as
// labels. Strings are left out and counted. Lines are parsed straight from the
// body; in the steady state nothing is allocated per line or field.
//
// What makes bad input harmless: a bad line ends at its line end, or, with a
// quote that is never closed, at the end of the body, so a body is passed over
// once; the labels of a line may not blow up to more than maxLineBytes, which
// bounds what the fields of one line repeat; and what was parsed is written
// whenever chunkBytes are together, so a large body does not become a larger
// request in memory. The body itself is charged to the door.
package influx
